//! A stable 64-bit hash of text: the same in every process and version.
//!
//! It decides hubs and stands in operation ids, so it must never change. What may not enter: keys;
//! anybody can make a text for a given fingerprint.

/// FNV-1a over the parts, each ended by a byte that no text holds, then mixed so that every bit of
/// the input reaches every bit of the result.
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part
            .bytes()
            .map(|byte| byte.to_ascii_lowercase())
            .chain([0xff])
        {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_count_and_the_borders_of_parts_do() {
        assert_eq!(fingerprint(["Ab", "c"]), fingerprint(["aB", "C"]));
        assert_ne!(fingerprint(["ab", "c"]), fingerprint(["a", "bc"]));
    }

    #[test]
    fn the_values_never_change() {
        assert_eq!(
            format!(
                "{:016x}",
                fingerprint(["0ne00002193", "contoso-simdevice-east"])
            ),
            "5e0233b2dc6a7c55"
        );
    }
}
