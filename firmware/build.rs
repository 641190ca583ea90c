//! Linker scripts: `preempt` is a whole image with a vector table, `sizes` is code that is only looked at.

fn main() {
    println!("cargo::rerun-if-changed=memory.x");
    println!("cargo::rustc-link-search={}", std::env::var("CARGO_MANIFEST_DIR").unwrap());
    println!("cargo::rustc-link-arg-bin=preempt=-Tlink.x");
    println!("cargo::rustc-link-arg-bin=preempt=--nmagic");
    println!("cargo::rustc-link-arg-bin=sizes=--entry=operations");
}
