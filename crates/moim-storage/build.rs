//! Says in time, and with the remedy, that the compiled RocksDB is not there. Otherwise the linker would, later.

use std::env::var_os;
use std::path::Path;

fn main() {
    for name in ["ROCKSDB_LIB_DIR", "ROCKSDB_COMPILE"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    // Without a directory to link from, or told to compile, the crate compiles RocksDB itself.
    let (Some(_), Some(directory), None) =
        (var_os("CARGO_FEATURE_ROCKSDB"), var_os("ROCKSDB_LIB_DIR"), var_os("ROCKSDB_COMPILE"))
    else {
        return;
    };
    let library = Path::new(&directory).join("librocksdb.a");
    println!("cargo::rerun-if-changed={}", library.display());
    if !library.is_file() {
        println!(
            "cargo::error=RocksDB is not there yet: {} does not exist. `cargo xtask rocksdb` compiles it, once per \
             machine (or `make dev`, which does that and more). Without RocksDB: --no-default-features.",
            library.display()
        );
    }
}
