//! Makes the programs and tests of this crate find libtorch where the build found it.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let Ok(lib) = env::var("DEP_TCH_LIBTORCH_LIB") else { return };
    println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    // The linker drops `libtorch_cuda` as unused, and the program then sees no GPU. It is kept where NVIDIA's own
    // libraries, which it needs at start, are installed beside torch; a CPU-only installation leaves them out.
    let cuda = Path::new(&lib).join("libtorch_cuda.so");
    let cudnn = Path::new(&lib).join("../../nvidia/cudnn/lib");
    // Cargo takes a watched file that is not there for one that always changes: the folder in which it would appear is watched.
    for there in [&cuda, &cudnn].into_iter().filter_map(|path| path.ancestors().find(|path| path.exists())) {
        println!("cargo::rerun-if-changed={}", there.display());
    }
    if cuda.exists() && cudnn.exists() {
        println!("cargo::rustc-link-arg=-Wl,--no-as-needed,-ltorch_cuda,--as-needed");
    }
}
