//! Ends an answer in front of a text.

/// Passes an answer on piece by piece, up to the first stop string. What may be the beginning of one is held back until it
/// is known not to be.
#[derive(Debug, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopStrings {
    /// Stops at the first of these that appears; empty ones do not count.
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, ..Self::default() }
    }

    /// Whether a stop string has appeared.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Takes a piece and gives what can be passed on.
    pub fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self.longest_beginning();
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// What was held back, when no more will come.
    pub fn finish(self) -> String {
        if self.stopped { String::new() } else { self.held }
    }

    /// Bytes at the end of what is held that are the beginning of a stop string.
    fn longest_beginning(&self) -> usize {
        let beginnings = self.stops.iter().flat_map(|stop| {
            stop.char_indices().map(|(at, _)| &stop[..at]).filter(|beginning| self.held.ends_with(beginning))
        });
        beginnings.map(str::len).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on of the pieces, and whether a stop string ended them.
    fn pass(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<_> = stops.iter().map(|&stop| stop.to_owned()).collect();
        let mut stop = StopStrings::new(&stops);
        let mut passed: Vec<_> = pieces.iter().map(|piece| stop.push(piece)).collect();
        let stopped = stop.is_stopped();
        passed.push(stop.finish());
        (passed, stopped)
    }

    #[test]
    fn an_answer_ends_in_front_of_the_first_stop_string() {
        assert_eq!(pass(&["two", "one"], &["zero one two"]), (vec!["zero ".into(), String::new()], true));
    }

    #[test]
    fn a_stop_string_in_pieces_is_never_passed_on() {
        let (passed, stopped) = pass(&["</s>"], &["a<", "/", "s", ">b", "c"]);
        assert_eq!((passed.concat(), stopped), ("a".into(), true));
    }

    #[test]
    fn what_turns_out_to_be_no_stop_string_is_passed_on() {
        let (passed, stopped) = pass(&["</s>"], &["a<", "/b", "<"]);
        assert_eq!(passed, ["a", "</b", "", "<"]);
        assert!(!stopped);
    }

    #[test]
    fn characters_of_several_bytes_are_not_split() {
        let (passed, stopped) = pass(&["éa"], &["é", "b", "éa"]);
        assert_eq!((passed.concat(), stopped), ("éb".into(), true));
    }

    #[test]
    fn without_stop_strings_all_is_passed_on_at_once() {
        assert_eq!(pass(&[""], &["a", "b"]), (vec!["a".into(), "b".into(), String::new()], false));
    }
}
