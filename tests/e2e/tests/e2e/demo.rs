//! `stint demo`, as a newcomer runs it.

use std::process::Command;

use anyhow::Result;

#[test]
fn the_demo_runs_jobs_of_several_sizes_and_shows_the_bill() -> Result<()> {
    // Nothing of the surroundings is used: neither a cluster nor an account.
    let output = Command::new(e2e::program()?)
        .arg("demo")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for part in
        ["demo-large", "demo-medium", "demo-small", "Running", "SizeUnknown", "COST", "Every runner is gone"]
    {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    assert!(text.contains("7 groups") && text.contains("7 rows"), "{text}");
    Ok(())
}
