//! The random words that signs and places come from.

/// The step of the sequence: 2⁶⁴ divided by the golden ratio, made odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Word `n` of the sequence that SplitMix64 gives from a seed; any word can be had without those before it.
#[inline(always)]
pub fn word(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(STEP));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_are_those_of_splitmix64() {
        // The published test vector of the seed 1234567.
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821_u64,
        ];
        for (n, expected) in expected.into_iter().enumerate() {
            assert_eq!(super::word(1_234_567, n as u64), expected, "{n}");
        }
    }
}
