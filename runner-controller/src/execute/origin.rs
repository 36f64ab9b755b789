//! What tells this installation from any other, be it of the same id: its origin, by which what it makes is marked.

use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::Outside;
use crate::ports::CallResult;

/// The origin, once it is known.
#[derive(Debug, Default)]
pub struct Origin(OnceCell<String>);

impl Outside {
    /// What tells this installation from any other: 16 hexadecimal digits that follow from where its records are and from its
    /// id. Nothing is made before it is known.
    ///
    /// # Errors
    /// What kept it from being found out.
    pub async fn origin(&self) -> CallResult<&str> {
        let find = async {
            let place = self.records.identity().await?;
            Ok(origin_of(&place, &self.installation.id))
        };
        self.origin.0.get_or_try_init(|| find).await.map(String::as_str)
    }
}

fn origin_of(place: &str, installation: &str) -> String {
    let digest = Sha256::digest(format!("{place}\n{installation}"));
    hex::encode(digest.get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installations_of_one_id_differ_by_where_their_records_are() {
        let own = origin_of("uid-1/stint", "stint");
        assert_eq!(own, origin_of("uid-1/stint", "stint"));
        assert_eq!(own.len(), 16);
        for (place, id) in [("uid-2/stint", "stint"), ("uid-1/other", "stint"), ("uid-1/stint", "other")] {
            assert_ne!(own, origin_of(place, id), "{place} {id}");
        }
    }
}
