//! The processor that this program runs on, as far as results depend on it.

/// Who made the processor, as it says itself: `GenuineIntel`, `AuthenticAMD`, …; none where it is not of the x86 family.
///
/// oneMKL chooses among its kernels by this, too: where both have AVX2 they sum in another order.
pub fn cpu_vendor() -> Option<String> {
    #[cfg(target_arch = "x86_64")]
    {
        let answer = std::arch::x86_64::__cpuid(0);
        let bytes: Vec<u8> =
            [answer.ebx, answer.edx, answer.ecx].iter().flat_map(|word| word.to_le_bytes()).collect();
        String::from_utf8(bytes).ok()
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}
