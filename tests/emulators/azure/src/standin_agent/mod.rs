//! The stand-in agent: what runs in a container in place of the real runner, since its archives cannot be had offline.
//!
//! It reads the same files and environment as the real image's entrypoint, sends the same call-backs, and speaks the GitHub
//! emulator's own agent protocol instead of GitHub's. Like the real one it always exits with 0 (facts/aci.md, fact 4); the
//! job's result travels in the call-back `exiting`.
//!
//! It is both the binary `standin-agent` and a hidden subcommand of the demo; a second mode, `supervise -- cmd…`, runs any
//! other command so that nothing of it outlives the emulator.

mod callback;
mod config;
mod github;
mod output;
mod supervise;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use self::callback::Callback;
use self::config::Config;
use self::github::{Job, Message, Session, SessionError};
use self::output::Output;

/// Runs the agent, or with `supervise -- cmd…` another command. `arguments` are those after the program's name (and after
/// the subcommand's, where there is one).
pub fn main_from(
    arguments: impl IntoIterator<Item = String>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> ExitCode {
    let arguments: Vec<String> = arguments.into_iter().collect();
    let environment = environment.into_iter().collect();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the agent has no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = match arguments.split_first() {
        Some((mode, rest)) if mode == "supervise" => {
            let command = rest.strip_prefix(&["--".to_owned()]).unwrap_or(rest);
            runtime.block_on(supervise::run(command, &environment))
        }
        Some(_) | None => {
            let output = Output::default();
            supervise::exit_when_alone(&environment);
            match runtime.block_on(act(&environment, &output)) {
                Ok(code) => code,
                Err(error) => {
                    output.line(&format!("the agent gave up: {error:#}"));
                    0
                }
            }
        }
    };
    runtime.shutdown_background();
    // Never unlocked: nothing may begin to remove directories while this process ends.
    std::mem::forget(supervise::settle());
    ExitCode::from(code)
}

/// How the agent's one job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ended {
    conclusion: String,
    /// What the process exits with; 0 unless the job's script says otherwise, which real agents never do.
    process_exit: u8,
}

async fn act(environment: &config::Environment, output: &Output) -> Result<u8> {
    let config = Config::load(environment)?;
    let client = config.client()?;
    let callback = Callback::start(&config, client.clone(), output);
    callback.send("booted", None, None);
    let ended = work(&config, client, &callback, output).await;
    let (code, process_exit) = match &ended {
        Ok(Some(ended)) => (exit_code(&ended.conclusion), ended.process_exit),
        Ok(None) => (0, 0),
        Err(error) => {
            output.line(&format!("{error:#}"));
            (1, 0)
        }
    };
    callback.send("exiting", Some(code), Some(output.tail()));
    callback.flush().await;
    Ok(process_exit)
}

fn exit_code(conclusion: &str) -> i32 {
    match conclusion {
        "success" | "skipped" | "neutral" => 0,
        "cancelled" => 130,
        _ => 1,
    }
}

async fn work(
    config: &Config,
    client: reqwest::Client,
    callback: &Callback,
    output: &Output,
) -> Result<Option<Ended>> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let jit = config.jit()?;
    let session = tokio::select! {
        session = Session::open(client, &jit) => match session {
            Ok(session) => session,
            Err(SessionError::Gone) => bail!("The runner registration no longer exists on the server."),
            Err(SessionError::Conflict) => bail!("A session for this runner already exists."),
            Err(SessionError::Other(error)) => return Err(error.context("opening a session")),
        },
        _ = terminate.recv() => return Ok(None),
    };
    output.line("Connected to GitHub, listening for jobs");
    let ended = tokio::select! {
        ended = serve(&session, callback, output) => ended?,
        _ = terminate.recv() => {
            output.line("SIGTERM: shutting down");
            session.abandon().await
        }
    };
    session.close().await;
    Ok(ended)
}

/// Waits for a job and does it.
async fn serve(session: &Session, callback: &Callback, output: &Output) -> Result<Option<Ended>> {
    let job = loop {
        match session.next_message().await? {
            Some(Message::Job(job)) => break job,
            Some(Message::Cancel | Message::Finish { .. } | Message::Other) | None => {}
        }
    };
    session.take(&job);
    callback.send("job-started", None, None);
    output.line(&format!("Running job: {} ({} of {})", job.name, job.job_id, job.repository));
    for line in &job.script.log_lines {
        output.line(line);
    }
    session.log(&job, &job.script.log_lines).await;
    let conclusion = run(session, &job).await?;
    output.line(&format!("Job {} completed with result: {conclusion}", job.name));
    session.complete(&job, &conclusion).await?;
    callback.send("job-completed", Some(exit_code(&conclusion)), None);
    Ok(Some(Ended { conclusion, process_exit: job.script.process_exit }))
}

/// Lets the job's time pass; ends early when told to.
async fn run(session: &Session, job: &Job) -> Result<String> {
    let time = job.script.duration_ms.map(Duration::from_millis);
    let over = async {
        match time {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => return Ok(job.script.conclusion.clone()),
            message = session.next_message() => match message? {
                Some(Message::Cancel) => return Ok("cancelled".to_owned()),
                Some(Message::Finish { conclusion }) => return Ok(conclusion),
                Some(Message::Job(_) | Message::Other) | None => {}
            },
        }
    }
}
