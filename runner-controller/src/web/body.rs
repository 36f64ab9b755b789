//! Reading a request's body whole, within bounds of size, time and memory.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

/// The unit in which memory for bodies is counted.
const BLOCK: usize = 1024;

/// How much of a body that is too large is still read, and thrown away.
const MAX_DRAINED: usize = 64 << 20;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It is longer than allowed, or says so.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// Too many bodies are being read at once.
    Crowded,
    /// The connection broke.
    Broken,
}

/// How a body may be read.
#[derive(Clone, Copy)]
pub(crate) struct BodyBounds<'a> {
    /// The most bytes.
    pub(crate) limit: usize,
    /// The whole body must have come by then.
    pub(crate) within: Duration,
    /// Memory for all bodies together, in blocks of 1 KiB.
    pub(crate) memory: &'a Semaphore,
}

/// Memory for bodies, as a semaphore.
pub(crate) fn memory(bytes: usize) -> Semaphore {
    Semaphore::new(bytes.div_ceil(BLOCK))
}

/// Reads a body whole. The permits, which hold its memory, are to be kept as long as the body.
pub(crate) async fn read<'a>(
    headers: &HeaderMap,
    body: Body,
    bounds: BodyBounds<'a>,
) -> Result<(Bytes, Option<SemaphorePermit<'a>>), BodyError> {
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let limit = u64::try_from(bounds.limit).unwrap_or(u64::MAX);
    let mut frames = body.into_data_stream();
    let whole = async {
        if announced.is_some_and(|length| length > limit) {
            return Err(BodyError::TooLarge);
        }
        let mut bytes = BytesMut::new();
        let mut held: Option<SemaphorePermit<'a>> = None;
        while let Some(frame) = frames.next().await {
            let frame = frame.map_err(|_| BodyError::Broken)?;
            if bytes.len() + frame.len() > bounds.limit {
                return Err(BodyError::TooLarge);
            }
            let blocks = u32::try_from(frame.len().div_ceil(BLOCK)).map_err(|_| BodyError::TooLarge)?;
            match bounds.memory.try_acquire_many(blocks) {
                Ok(more) => match &mut held {
                    Some(held) => held.merge(more),
                    None => held = Some(more),
                },
                Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => return Err(BodyError::Crowded),
            }
            bytes.extend_from_slice(&frame);
        }
        Ok((bytes.freeze(), held))
    };
    let read = tokio::time::timeout(bounds.within, whole).await.unwrap_or(Err(BodyError::TooSlow));
    if matches!(read, Err(BodyError::TooLarge)) {
        tokio::spawn(tokio::time::timeout(bounds.within, drain(frames)));
    }
    read
}

/// Throws the rest away while the answer is under way: closing a connection on which unread data arrives would reset
/// it, and the peer might never see why.
async fn drain(mut frames: BodyDataStream) {
    let mut left = MAX_DRAINED;
    while let Some(Ok(frame)) = frames.next().await {
        match left.checked_sub(frame.len()) {
            Some(less) => left = less,
            None => return,
        }
    }
}
