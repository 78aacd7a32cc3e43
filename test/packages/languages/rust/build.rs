//! Makes the messages from the contract's folder, which PROTO names. Stubs take tonic, which Debian does not have.
use std::{env, io, path::PathBuf};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-env-changed=PROTO");
    let proto = PathBuf::from(env::var("PROTO").expect("PROTO, the folder of the contract"));
    println!("cargo:rerun-if-changed={}", proto.display());
    let names = ["block_job_service", "domain_service", "error_reason", "job", "server_service"];
    let ours = names.map(|name| proto.join(format!("blockjob/v1/{name}.proto")));
    let files = ours.into_iter().chain([proto.join("google/rpc/error_details.proto")]);
    prost_build::compile_protos(&files.collect::<Vec<_>>(), &[proto])
}
