//! Writes what a client writes; prints a request's bytes, in hexadecimal.
use blockjob::v1::{job_event, job_ref, start_copy_response, AbortRequest, JobEvent, JobRef, StartCopyResponse};
use prost::Message;

pub mod blockjob {
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/blockjob.v1.rs"));
    }
}
pub mod google {
    pub mod rpc {
        include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));
    }
}

fn id_of(started: StartCopyResponse) -> Option<String> {
    match started.result? {
        start_copy_response::Result::Job(job) => Some(job.id),
        start_copy_response::Result::Plan(_) => None,
    }
}

fn is_progress(event: &JobEvent) -> bool {
    event.kind == job_event::Kind::Progress as i32
}

fn main() {
    let id = std::env::args().nth(1).expect("the id of a job");
    let job = blockjob::v1::Job { id, ..Default::default() };
    let started = StartCopyResponse { result: Some(start_copy_response::Result::Job(job)) };
    assert!(!is_progress(&JobEvent { kind: job_event::Kind::State as i32, ..Default::default() }));
    let name = id_of(started).map(job_ref::Name::JobId);
    let request = AbortRequest {
        job: Some(JobRef { name }),
        pivot: true,
        return_immediately: true,
        ..Default::default()
    };
    for byte in request.encode_to_vec() {
        print!("{byte:02x}");
    }
}
