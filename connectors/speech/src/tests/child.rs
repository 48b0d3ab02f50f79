//! The pool and its children: death, hanging, nonsense, limits. Well-behaved children are this test program
//! itself; misbehaving ones are shell scripts.

use std::ffi::OsString;
use std::future::Future;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hansard_core::redelivery::Class;
use hansard_jobs::ports::Speech;
use hansard_runtime::stage::Failed;

use super::permit;
use super::recordings::{Answers, model, request, samples};
use crate::local::{Local, LocalConfig};
use crate::{CHILD_REFUSED, child_main};

/// Marks an argument list of the test program as that of a child; the program's own options ignore it.
const AS_CHILD: &str = "as-a-speech-child";

pub(crate) fn config(program: &Path, arguments: &[&str]) -> LocalConfig {
    let arguments = arguments.iter().map(OsString::from).collect();
    LocalConfig::new(program.to_owned(), arguments, model().clone())
}

pub(crate) fn real_config() -> LocalConfig {
    let program = std::env::current_exe().expect("this program");
    let test = "tests::child::a_child_without_a_parent_refuses";
    config(&program, &["--exact", test, "--nocapture", "--skip", AS_CHILD])
}

/// A pool whose children are this program.
pub(crate) fn real_pool(children: usize) -> Local {
    Local::new(LocalConfig { children, ..real_config() })
}

/// A pool whose children are shell scripts; their standard input is the socket.
pub(crate) fn script(script: &str) -> Local {
    Local::new(config(Path::new("/bin/sh"), &["-c", script]))
}

/// Reads the first frame and answers that the model is loaded. One read takes the frame, which is short.
pub(crate) const READY: &str =
    "dd bs=4096 count=1 of=/dev/null 2>/dev/null; printf '\\000\\000\\000\\000R' >&0; ";

async fn failure(pool: &Local) -> Failed {
    pool.transcribe(request(&[0; 1_600], 0)).await.expect_err("no child answers")
}

#[test]
fn a_child_without_a_parent_refuses() {
    if std::env::args().any(|argument| argument == AS_CHILD) {
        // This is such a child, started by another test, or by this one without a socket.
        let code = if child_main() == ExitCode::from(CHILD_REFUSED) { i32::from(CHILD_REFUSED) } else { 0 };
        std::process::exit(code);
    }
    let config = real_config();
    let ended = Command::new(config.program)
        .args(config.arguments)
        .stdin(Stdio::null())
        .output()
        .expect("this program starts");
    assert_eq!(ended.status.code(), Some(i32::from(CHILD_REFUSED)));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("started by hansard, not by hand"), "{said}");
}

#[tokio::test]
async fn a_killed_child_is_replaced() {
    let pool = real_pool(1);
    let beckett = samples("beckett");
    let before = pool.transcribe(request(&beckett, 0)).await.expect("a transcript");
    let [child] = pool.idle_children()[..] else { panic!("one child: {:?}", pool.idle_children()) };
    kill(child);
    let after = pool.transcribe(request(&beckett, 0)).await.expect("a transcript by another child");
    assert_eq!(before.text, after.text);
    assert_ne!(pool.idle_children(), [child]);
}

fn kill(child: u32) {
    let pid = rustix::process::Pid::from_raw(child.try_into().expect("a process id")).expect("not zero");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    // Until it is reaped it can be waited for without being taken from the pool.
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).expect("it ends");
}

#[tokio::test]
async fn a_child_that_dies_in_a_segment_is_a_transient_failure() {
    let pool = script(&format!("{READY} dd bs=1 count=5 of=/dev/null 2>/dev/null; exit 3"));
    let error = failure(&pool).await;
    assert_eq!((error.class, error.code), (Class::Transient, "child_died"), "{error}");
    assert!(error.cause.contains("exit status: 3"), "{error}");
    assert!(pool.idle_children().is_empty());
}

#[tokio::test]
async fn a_hanging_child_is_timed_out_and_killed() {
    let mut config = config(Path::new("/bin/sh"), &["-c", &format!("{READY} exec sleep 1000")]);
    config.answer_within = Duration::from_millis(300);
    let pool = Local::new(config);
    pool.probe(&permit().await).await.expect("it says that it is ready");
    let [child] = pool.idle_children()[..] else { panic!("one child: {:?}", pool.idle_children()) };
    let error = failure(&pool).await;
    assert_eq!((error.class, error.code), (Class::Transient, "timeout"), "{error}");
    assert!(pool.idle_children().is_empty());
    ended(child).await;
}

/// Waits until the process is gone or a zombie.
async fn ended(process: u32) {
    let gone = async {
        loop {
            match std::fs::read_to_string(format!("/proc/{process}/stat")) {
                Ok(stat) if !stat.contains(") Z ") => tokio::task::yield_now().await,
                _ => return,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the child is killed");
}

#[tokio::test]
async fn nonsense_from_a_child_is_a_transient_failure() {
    for answer in
        ["\\377\\377\\377\\377H", "\\001\\000\\000\\000H{", "\\001\\000\\000\\000E{", "\\000\\000\\000\\000?"]
    {
        let pool = script(&format!("{READY} printf '{answer}' >&0; exec sleep 1000"));
        let error = failure(&pool).await;
        assert_eq!((error.class, error.code), (Class::Transient, "child_died"), "{answer}: {error}");
        assert!(pool.idle_children().is_empty(), "{answer}");
    }
}

#[tokio::test]
async fn a_model_that_does_not_load_is_unavailable() {
    let missing = Local::new(config(Path::new("/nonexistent/hansard"), &[]));
    let refuses = script("exit 2");
    let mut hangs = config(Path::new("/bin/sh"), &["-c", "exec sleep 1000"]);
    hangs.start_within = Duration::from_millis(300);
    // The first limit stops the library, the second the model.
    let [small, larger] = [96 << 20, 160 << 20]
        .map(|memory_bytes_max| Local::new(LocalConfig { memory_bytes_max, ..real_config() }));
    for (name, pool) in [
        ("missing", missing),
        ("refuses", refuses),
        ("hangs", Local::new(hangs)),
        ("small", small),
        ("larger", larger),
    ] {
        for error in [failure(&pool).await, pool.probe(&permit().await).await.expect_err("not ready")] {
            assert_eq!(
                (error.class, error.code),
                (Class::Unavailable, "model_unavailable"),
                "{name}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_again() {
    let mut config = real_config();
    config.queue = 1;
    let pool = Local::new(config);
    let beckett = samples("beckett");
    let mut first = Box::pin(pool.transcribe(request(&beckett, 0)));
    let mut second = Box::pin(pool.transcribe(request(&beckett, 0)));
    let mut context = Context::from_waker(Waker::noop());
    for call in [&mut first, &mut second] {
        assert!(matches!(call.as_mut().poll(&mut context), Poll::Pending), "nothing is answered at once");
    }
    let error = failure(&pool).await;
    assert_eq!((error.class, error.code), (Class::Unavailable, "queue_full"), "{error}");
    assert_eq!(error.retry_after, Some(Duration::from_secs(1)));
    first.await.expect("the first is served");
    second.await.expect("the second is served");
    pool.transcribe(request(&[0; 1_600], 0)).await.expect("there is room again");
    assert_eq!(pool.idle_children().len(), 1);
}

#[tokio::test]
async fn a_dropped_call_takes_its_child_along() {
    let pool = real_pool(1);
    pool.probe(&permit().await).await.expect("the model loads");
    let [child] = pool.idle_children()[..] else { panic!("one child: {:?}", pool.idle_children()) };
    let mut call = Box::pin(pool.transcribe(request(&samples("endgame"), 0)));
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(call.as_mut().poll(&mut context), Poll::Pending), "nothing is answered at once");
    drop(call);
    ended(child).await;
    let reply = pool.transcribe(request(&[0; 16_000], 0)).await.expect("another child answers");
    assert_eq!((reply.text.as_str(), reply.audio_ms), ("", 1_000), "not the answer of the dropped call");
}

#[tokio::test]
async fn a_child_ends_with_its_parent() {
    let pool = real_pool(1);
    pool.probe(&permit().await).await.expect("the model loads");
    let [child] = pool.idle_children()[..] else { panic!("one child: {:?}", pool.idle_children()) };
    drop(pool);
    ended(child).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_share_few_children() {
    let pool = Arc::new(real_pool(2));
    let calls: Vec<_> = (0i16..20)
        .map(|n| {
            let pool = pool.clone();
            let samples = vec![0; 1_600 * (n as usize + 1)];
            tokio::spawn(async move { (n, pool.transcribe(request(&samples, 0)).await) })
        })
        .collect();
    for call in calls {
        let (n, reply) = call.await.expect("no panic");
        assert_eq!(
            reply.expect("an answer").audio_ms,
            100 * (i64::from(n) + 1),
            "each call gets its own answer"
        );
    }
    assert_eq!(pool.idle_children().len(), 2);
}
