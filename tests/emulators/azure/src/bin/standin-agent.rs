//! The stand-in agent as a program of its own; see `emulator_azure::standin_agent`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    emulator_azure::standin_agent::main_from(
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()),
        environment,
    )
}
