operations! {
    fn planted_index(slots: &[u32], at: usize) -> u32 {
        slots[at]
    }
}
