//! Puts what a diagnosis found into a sentence.

use super::numbers::digits;
use crate::diagnosis::{Explanation, Value};

/// What is wrong, with the values that were found.
pub fn explanation(explanation: &Explanation) -> String {
    let mut values = explanation.values.iter();
    let mut parts = explanation.pattern.split("{}");
    let mut sentence = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        sentence.push_str(&values.next().map_or_else(String::new, value));
        sentence.push_str(part);
    }
    sentence
}

fn value(value: &Value) -> String {
    match value {
        Value::Number(number) => digits(*number),
        Value::Decimal(number) => format!("{number:.3}"),
        Value::Power(number) => format!("{number:e}"),
        Value::Count(count) => count.to_string(),
        Value::List(indices) => list(indices),
        Value::Span(indices) => match indices.as_slice() {
            [first, .., last] if indices.len() > 2 && last - first + 1 == indices.len() => {
                format!("{first} to {last}")
            }
            indices => list(indices),
        },
        Value::Name(name) => (*name).to_owned(),
        Value::Site(name) => name.clone(),
        Value::Dtype(dtype) => dtype.to_string(),
    }
}

fn list(indices: &[usize]) -> String {
    indices.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_where_the_pattern_has_room_for_them() {
        let found = |pattern, values| Explanation { pattern, values, before: 1.0, after: 0.0 };
        let rows = vec![Value::Name("lacks"), Value::Span(vec![4, 5, 6]), Value::Count(72)];
        assert_eq!(explanation(&found("it {} rows {} of {}", rows)), "it lacks rows 4 to 6 of 72");
        let numbers = vec![Value::Number(11.3137), Value::Decimal(0.5), Value::Power(1e-5)];
        assert_eq!(explanation(&found("{}, {}, {}", numbers)), "11.31, 0.500, 1e-5");
        assert_eq!(explanation(&found("{}", vec![Value::Span(vec![1, 4])])), "1, 4");
    }
}
