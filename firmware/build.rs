//! Linker scripts: `preempt`, `cas` and `sensor` are whole images with a vector table, `sizes` is code that is only looked at.

fn main() {
    println!("cargo::rerun-if-changed=memory.x");
    println!("cargo::rustc-link-search={}", std::env::var("CARGO_MANIFEST_DIR").unwrap());
    for image in ["preempt", "cas", "sensor"] {
        println!("cargo::rustc-link-arg-bin={image}=-Tlink.x");
        println!("cargo::rustc-link-arg-bin={image}=--nmagic");
    }
    println!("cargo::rustc-link-arg-bin=sizes=--entry=operations");
}
