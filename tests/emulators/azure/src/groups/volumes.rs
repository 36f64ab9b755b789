//! A group's volumes as directories of this machine.
//!
//! Processes run without mount namespaces, so each container has a directory of its own that stands for `/`, named to it in
//! `EMULATED_ROOT`; volumes are symbolic links in it. All of it is readable by the owner alone, since volumes hold secrets,
//! and is gone when the group's processes are.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::request::{Requested, RequestedContainer, Volume};

/// Marks a directory that a stand-in agent may remove when its emulator is gone.
pub(crate) const MARKER: &str = ".emulated-group";

/// The directories of one run of one group; removed on drop.
#[derive(Debug)]
pub(crate) struct GroupDirectory {
    path: PathBuf,
}

impl GroupDirectory {
    /// Makes the volumes of `requested` below `base`.
    pub(crate) fn create(base: &Path, name: &str, requested: &Requested) -> Result<Self> {
        let directory = Self { path: base.join(name) };
        if directory.path.exists() {
            fs::remove_dir_all(&directory.path).context("removing the volumes of an earlier run")?;
        }
        make_directory(&directory.path)?;
        write_file(&directory.path.join(MARKER), b"")?;
        for (name, volume) in &requested.volumes {
            let at = directory.volume(name)?;
            make_directory(&at)?;
            if let Volume::Secret(files) = volume {
                for (file, bytes) in files {
                    write_file(&at.join(plain_name(file)?), bytes)?;
                }
            }
        }
        for container in requested.init_containers.iter().chain(&requested.containers) {
            directory.mount(container)?;
        }
        Ok(directory)
    }

    /// The directory that stands for `/` in the container.
    pub(crate) fn root(&self, container: &str) -> PathBuf {
        self.path.join("roots").join(container)
    }

    fn volume(&self, name: &str) -> Result<PathBuf> {
        Ok(self.path.join("volumes").join(plain_name(name)?))
    }

    fn mount(&self, container: &RequestedContainer) -> Result<()> {
        let root = self.root(&container.name);
        make_directory(&root)?;
        for (volume, path) in &container.mounts {
            let at = inside(&root, path)?;
            if let Some(parent) = at.parent() {
                make_directory(parent)?;
            }
            symlink(self.volume(volume)?, &at).with_context(|| format!("mounting '{volume}' at '{path}'"))?;
        }
        Ok(())
    }
}

impl Drop for GroupDirectory {
    fn drop(&mut self) {
        remove_group(&self.path);
    }
}

/// Removes a group's directory and, when it was the last, the emulator's.
pub(crate) fn remove_group(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "the volumes of a group could not be removed");
    }
    if let Some(base) = path.parent() {
        // Fails while other groups are there, which is meant.
        let _ = fs::remove_dir(base);
    }
}

/// `path` of a container below the directory that stands for its `/`.
pub(crate) fn inside(root: &Path, path: &str) -> Result<PathBuf> {
    let mut at = root.to_owned();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => at.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => bail!("'{path}' leaves the container"),
        }
    }
    Ok(at)
}

fn plain_name(name: &str) -> Result<&str> {
    if name.is_empty() || name.starts_with("..") || name.contains('/') {
        bail!("'{name}' is not a file name");
    }
    Ok(name)
}

fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("making the directory '{}'", path.display()))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file: File = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("making the file '{}'", path.display()))?;
    file.write_all(bytes).with_context(|| format!("writing the file '{}'", path.display()))
}
