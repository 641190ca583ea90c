//! Nothing is linked but this program, at a fixed place, as there is nobody to relocate it.

fn main() {
    for flag in ["-nostdlib", "-nostartfiles", "-static", "-no-pie"] {
        println!("cargo::rustc-link-arg-bins={flag}");
    }
}
