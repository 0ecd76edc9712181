//! Says which tokens and channels carry an error.

use crate::diagnosis::{Place, Token, TokensOff};

/// A place in a sentence.
pub fn place(place: &Place) -> String {
    let what = match place {
        Place::Tokens(off) => return tokens(off),
        Place::Positions(positions, all) => format!("{} of {all}", self::positions(positions)),
        Place::Heads(heads, all) => format!("{} of {all}", numbers("head", heads)),
        Place::Channels { first, last, of, part } => {
            let part = part.map_or_else(String::new, |part| format!(", all in the {part}"));
            format!("channels {first} to {last} of {of}{part}")
        }
        Place::Parts(parts) => format!("the {}", parts.join(" and ")),
        Place::Single(channels, all) => format!("{} of {all}", numbers("channel", channels)),
    };
    format!("the error is in {what}")
}

fn tokens(off: &TokensOff) -> String {
    let TokensOff { count, all, .. } = off;
    if count == all {
        return format!("every one of {all} rows is off");
    }
    let are = if *count == 1 { "is" } else { "are" };
    let mut sentence = match off.kinds.as_slice() {
        [(a, a_off, a_all), (b, 0, _)] | [(b, 0, _), (a, a_off, a_all)] if a_off == a_all => {
            format!("all {a_all} {a} tokens are off and no {b} token is")
        }
        [] => format!("{count} of {all} rows {are} off"),
        kinds => {
            let touched = kinds.iter().filter(|(_, off, _)| *off > 0);
            let parts = touched.map(|(kind, off, all)| format!("{off} of {all} {kind} tokens"));
            format!("{} {are} off", parts.collect::<Vec<_>>().join(" and "))
        }
    };
    if let Some(tiles) = &off.tiles {
        sentence.push_str(&format!(", in {} only", numbers("tile", tiles)));
    }
    if let Some((first, last)) = off.run {
        sentence.push_str(&match (first, all - 1 - last) {
            (0, 1) => ": all but the last".to_owned(),
            (1, 0) => ": all but the first".to_owned(),
            (_, 0) => format!(": all from {first} on"),
            (0, _) => format!(": all up to {last}"),
            _ => format!(": all from {first} to {last}"),
        });
    }
    if !off.few.is_empty() {
        let few: Vec<String> = off.few.iter().copied().map(token).collect();
        sentence.push_str(&format!(": {}", few.join("; ")));
    }
    sentence
}

fn token(token: Token) -> String {
    match token {
        Token::Prefix { tile, index } => format!("tile {tile}, prefix token {index}"),
        Token::Patch { tile, row, column } => format!("tile {tile}, row {row}, column {column}"),
        Token::Image { index } => format!("token {index} (image)"),
        Token::Text { index } => format!("token {index} (text)"),
        Token::Row { index } => format!("row {index}"),
    }
}

/// `position 2`, `positions 3 to 7`.
pub(super) fn positions(positions: &[usize]) -> String {
    match positions {
        [first, .., last] if positions.len() > 2 && last - first + 1 == positions.len() => {
            format!("positions {first} to {last}")
        }
        positions => numbers("position", positions),
    }
}

/// `tile 2`, `tiles 0, 2`.
fn numbers(name: &str, numbers: &[usize]) -> String {
    let plural = if numbers.len() == 1 { "" } else { "s" };
    let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
    format!("{name}{plural} {}", numbers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_named_by_what_they_stand_for() {
        let off = |count, all, kinds: &[(&'static str, usize, usize)]| TokensOff {
            count,
            all,
            kinds: kinds.to_vec(),
            ..TokensOff::default()
        };
        let tower = |count, prefix, patches| off(count, 14, &[("prefix", prefix, 6), ("patch", patches, 8)]);
        assert_eq!(tokens(&off(14, 14, &[])), "every one of 14 rows is off");
        assert_eq!(tokens(&tower(6, 6, 0)), "all 6 prefix tokens are off and no patch token is");
        assert_eq!(tokens(&tower(8, 0, 8)), "all 8 patch tokens are off and no prefix token is");
        let one = Token::Patch { tile: 1, row: 1, column: 0 };
        assert_eq!(
            tokens(&TokensOff { tiles: Some(vec![1]), few: vec![one], ..tower(1, 0, 1) }),
            "1 of 8 patch tokens is off, in tile 1 only: tile 1, row 1, column 0"
        );
        let prompt = |count, image, text| off(count, 9, &[("image", image, 4), ("text", text, 5)]);
        assert_eq!(
            tokens(&TokensOff { run: Some((3, 8)), ..prompt(6, 3, 3) }),
            "3 of 4 image tokens and 3 of 5 text tokens are off: all from 3 on"
        );
        let few = (2..6).map(|index| Token::Image { index }).collect();
        assert_eq!(
            tokens(&TokensOff { run: Some((2, 5)), few, ..prompt(4, 4, 0) }),
            "all 4 image tokens are off and no text token is: all from 2 to 5: token 2 (image); token 3 (image); \
             token 4 (image); token 5 (image)"
        );
    }

    #[test]
    fn channels_are_named_by_their_numbers() {
        assert_eq!(place(&Place::Heads(vec![1, 3], 4)), "the error is in heads 1, 3 of 4");
        assert_eq!(place(&Place::Single(vec![1], 128)), "the error is in channel 1 of 128");
        assert_eq!(place(&Place::Positions(vec![41], 72)), "the error is in position 41 of 72");
        assert_eq!(place(&Place::Positions(vec![3, 4, 5], 9)), "the error is in positions 3 to 5 of 9");
        assert_eq!(place(&Place::Positions(vec![3, 5], 9)), "the error is in positions 3, 5 of 9");
        assert_eq!(place(&Place::Parts(vec!["keys", "values"])), "the error is in the keys and values");
        let channels = Place::Channels { first: 96, last: 191, of: 288, part: Some("keys") };
        assert_eq!(place(&channels), "the error is in channels 96 to 191 of 288, all in the keys");
    }
}
