//! A database that is slower than its callers are patient: the try to connect is nobody's, so nobody ends it.

use futures::FutureExt as _;
use hansard_runtime::ports::PortError;
use tokio::net::TcpListener;

use crate::{ScyllaConfig, ScyllaStore};

#[tokio::test]
async fn a_try_to_connect_outlives_its_callers() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let node = silent.local_addr().expect("an address").to_string();
    let store = ScyllaStore::new(ScyllaConfig::new(vec![node], "slow", 1));
    let (socket, _) = tokio::select! {
        accepted = silent.accept() => accepted.expect("a connection"),
        early = store.connect() => panic!("nobody answered: {early:?}"),
    };
    // The first caller is gone. The second is told how the first one's try ended, and begins none.
    let (told, ()) = tokio::join!(store.connect(), async move {
        tokio::task::yield_now().await;
        drop(socket);
    });
    assert!(matches!(told, Err(PortError::Unavailable { .. })), "{told:?}");
    assert!(silent.accept().now_or_never().is_none(), "a second try");
}
