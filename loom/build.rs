//! Sets `cfg(loom)` for this crate alone: no flag that would reach, and rebuild, its dependencies.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(loom, conduit_races)");
    println!("cargo::rustc-cfg=loom");
    println!("cargo::rerun-if-changed=build.rs");
}
