//! The audio child as a program of its own: what the tests run, and a way to look at one file by hand.

fn main() -> std::process::ExitCode {
    hansard_audio::child_main().into()
}
