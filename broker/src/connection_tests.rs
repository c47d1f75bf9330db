//! What a connection costs while it does nothing.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::future::Future;

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::*;

#[derive(Clone)]
struct Name(Owner);

impl Principal for Name {
    fn owner(&self) -> &Owner {
        &self.0
    }
}

struct Nobody;

impl Backend for Nobody {
    type Principal = Name;

    async fn authenticate(&self, _: Hello) -> Result<Admission<Name>, Refusal> {
        Err(Refusal::new("nobody", Answer::Connack(5), "nobody enters"))
    }

    fn publish(&self, _: &Name, _: Publish<'_>) -> Result<Inward, Refusal> {
        Ok(Inward::Answer(None))
    }

    fn subscribe(&self, _: &Name, _: &str, _: QoS) -> Result<Granted, Refusal> {
        Ok(Granted::Failure)
    }

    fn unsubscribe(&self, _: &Name, _: &str) -> Result<(), Refusal> {
        Ok(())
    }

    fn arrived(&self, _: &Name, _: &Line) {}

    fn left(&self, _: &Name, _: &CloseReason) {}
}

/// The size of what a function of these arguments gives, without calling it.
fn size_of_result<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize
where
    F: Future,
{
    size_of::<F>()
}

#[test]
fn the_task_of_a_connection_is_small() {
    let size = size_of_result(serve::<Box<TlsStream<TcpStream>>, Nobody>);
    println!("the future of a connection takes {size} bytes");
    assert!(size <= 2048, "{size} bytes for every device on the line");
}
