//! The supervisor of one cluster: starts it, answers commands, and takes it down.
//!
//! It ends when its standard input does, on SIGINT or SIGTERM, and when a process of the cluster ends by itself. Its children
//! are killed with it even if it is killed, since each is tied to its life; the directory that is then left behind is
//! removed by the next supervisor.

mod api;
mod components;
mod credentials;
mod directory;
mod ports;
mod process;
mod running;
mod store;

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::options::Options;
use crate::programs::Programs;
use crate::wire::{ClusterInfo, Command, Reply};
use running::Running;

/// How often a cluster is tried again when somebody else took one of its ports before it could.
const ATTEMPTS: u32 = 3;

/// How the supervisor is run.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    /// Run until a signal, whatever becomes of standard input.
    pub ignore_stdin: bool,
}

/// Runs a cluster until it shall end. Must be called on a runtime of one thread: a child's life is tied to the *thread* that
/// started it.
///
/// # Errors
/// When the cluster does not come up or one of its processes ends by itself. The error holds the end of its log.
pub async fn run(options: Options, mode: Mode) -> Result<()> {
    let mut ending = Ending::new(mode)?;
    let programs = Programs::of_this_machine()?;

    let Some(mut cluster) = start(&programs, &options, &mut ending).await.inspect_err(|error| {
        say(&Reply::Failed(format!("{error:#}")));
    })?
    else {
        return Ok(());
    };
    let info = cluster.info();
    say(&Reply::Ready(Box::new(info.clone())));
    hint(&info);

    let outcome = serve(&mut cluster, &mut ending).await;
    cluster.tear_down().await;
    outcome
}

/// Starts a cluster. None: it shall end before it was up, and has been taken down.
async fn start(programs: &Programs, options: &Options, ending: &mut Ending) -> Result<Option<Running>> {
    let mut attempt = 1;
    loop {
        let mut cluster = Running::new(programs, options)?;
        let error = match ending.unless_ended(cluster.start()).await {
            Some(Ok(())) => return Ok(Some(cluster)),
            Some(Err(error)) => error,
            None => {
                cluster.tear_down().await;
                return Ok(None);
            }
        };
        let port_was_taken = cluster.lost_a_port();
        cluster.tear_down().await;
        if !port_was_taken || attempt == ATTEMPTS {
            return Err(error);
        }
        eprintln!("test bed: a port was taken meanwhile; trying again with others");
        attempt += 1;
    }
}

async fn serve(cluster: &mut Running, ending: &mut Ending) -> Result<()> {
    loop {
        tokio::select! {
            () = wait_for(&mut ending.interrupt, &mut ending.terminate) => return Ok(()),
            restarted = cluster.after_unexpected_exit() => restarted?,
            line = ending.lines.recv() => {
                let Some(line) = line else { return Ok(()) };
                let reply = match ending.unless_ended(carry_out(cluster, &line)).await {
                    Some(Ok(())) => Reply::Done(cluster.pids()),
                    Some(Err(error)) => Reply::Failed(format!("{error:#}")),
                    None => return Ok(()),
                };
                say(&reply);
            }
        }
    }
}

async fn carry_out(cluster: &mut Running, line: &str) -> Result<()> {
    let command = serde_json::from_str(line).with_context(|| format!("not a command: {line}"))?;
    match command {
        Command::Stop(component) => cluster.stop(&component).await,
        Command::Start(component) => cluster.start_again(&component).await,
        Command::SaveStore(name) => cluster.save_store(&name),
        Command::RestoreStore(name) => cluster.restore_store(&name).await,
    }
}

/// A reply that nobody reads any more is no error: the end of standard input says the same in a moment.
fn say(reply: &Reply) {
    if let Ok(line) = serde_json::to_string(reply) {
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }
}

fn hint(info: &ClusterInfo) {
    if std::io::stdin().is_terminal() {
        eprintln!(
            "\nThe cluster is up. In another terminal:\n\n    export KUBECONFIG={}\n    {} get nodes\n\n\
             Logs are beside the kubeconfig. Ctrl-C or Ctrl-D takes everything down.",
            info.kubeconfig.display(),
            info.kubectl.display()
        );
    }
}

/// All that makes a supervisor end from outside, and the commands, which come the same way.
struct Ending {
    lines: mpsc::UnboundedReceiver<String>,
    /// Kept when standard input is ignored, so that `lines` never ends.
    _keeps_lines_open: Option<mpsc::UnboundedSender<String>>,
    interrupt: Signal,
    terminate: Signal,
}

impl Ending {
    fn new(mode: Mode) -> Result<Self> {
        let (sender, lines) = mpsc::unbounded_channel();
        let keeps_lines_open = mode.ignore_stdin.then(|| sender.clone());
        if !mode.ignore_stdin {
            // A thread of its own: a read of standard input cannot be cancelled, and must not keep the program from ending.
            thread::spawn(move || {
                for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                    if !line.trim().is_empty() && sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self {
            lines,
            _keeps_lines_open: keeps_lines_open,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The result of `work`, unless the supervisor shall end before that. Commands wait for the answer to the one before.
    async fn unless_ended(&mut self, work: impl Future<Output = Result<()>>) -> Option<Result<()>> {
        tokio::select! {
            result = work => Some(result),
            () = wait_for(&mut self.interrupt, &mut self.terminate) => None,
            line = self.lines.recv() => {
                line.map(|line| Err(anyhow!("a command came too early: {line}")))
            }
        }
    }
}

async fn wait_for(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
