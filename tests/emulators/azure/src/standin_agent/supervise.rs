//! Ends with the emulator: the other end of standard input is the emulator's, so its end means that the emulator is gone,
//! even when it was killed with SIGKILL.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, getpgrp, getpid, kill_process, kill_process_group};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::config::Environment;
use crate::groups::process::EMULATED_ROOT;
use crate::groups::volumes::{MARKER, remove_group};

/// Held by whoever ends this process, so that a removal of directories is not cut short by the other way of ending.
static ENDING: Mutex<()> = Mutex::new(());

/// Called before `main` returns. Does not return once the emulator is found gone.
pub(crate) fn settle() -> MutexGuard<'static, ()> {
    ENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Exits this process once standard input ends. Only where an emulator started it: by hand, input may well be empty.
pub(crate) fn exit_when_alone(environment: &Environment) {
    if environment.contains_key(EMULATED_ROOT) {
        let environment = environment.clone();
        std::thread::spawn(move || {
            wait_for_end_of_input();
            let _ending = settle();
            remove_directories(&environment);
            std::process::exit(0);
        });
    }
}

/// Runs `command` to its end, or until the emulator is gone; its exit code.
pub(crate) async fn run(command: &[String], environment: &Environment) -> u8 {
    let Some((program, arguments)) = command.split_first() else {
        eprintln!("supervise: no command given");
        return 64;
    };
    // SIGTERM goes to the whole process group: the command decides what to do, and this process outlasts it.
    let ignored = signal(SignalKind::terminate());
    let spawned = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            eprintln!("supervise: '{program}' cannot be started: {error}");
            return 127;
        }
    };
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).unwrap_or_default()));
    let environment = environment.clone();
    std::thread::spawn(move || {
        wait_for_end_of_input();
        let _ending = settle();
        remove_directories(&environment);
        // Kills this process too, which leads the group.
        if getpgrp() == getpid() {
            let _ = kill_process_group(getpgrp(), Signal::KILL);
        }
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::process::exit(0);
    });
    let status = child.wait().await;
    drop(ignored);
    match status {
        Ok(status) => {
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
            code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255)
        }
        Err(error) => {
            eprintln!("supervise: '{program}' cannot be waited for: {error}");
            255
        }
    }
}

fn wait_for_end_of_input() {
    let mut buffer = [0; 64];
    let mut input = std::io::stdin();
    while let Ok(1..) = input.read(&mut buffer) {}
}

/// Removes the group's directory, which holds its secrets and which nobody else will remove now.
fn remove_directories(environment: &Environment) {
    let root = environment.get(EMULATED_ROOT).map(Path::new);
    if let Some(group) = root.and_then(Path::parent).and_then(Path::parent)
        && group.join(MARKER).is_file()
    {
        remove_group(group);
    }
}
