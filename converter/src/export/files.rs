//! The small files of the source: those that the normalized folder has, and those whose text its ledger keeps.

use crate::Error;
use crate::ledger::{LEDGER_FILE, Ledger};
use crate::weights::Folder;
use store::hash::sha256;

/// Every file of the source that is not one of weights, as it was.
///
/// # Errors
/// [`Error::Field`] where one is not what the ledger says it was.
pub(super) fn small_files(folder: &Folder, ledger: &Ledger) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let path = folder.file_path(LEDGER_FILE);
    let small = ledger.source.files.iter().filter(|file| file.header.is_none());
    small
        .map(|file| {
            folder.check_name(&file.name)?;
            let bytes = match &file.text {
                Some(text) => text.clone().into_bytes(),
                None => folder.read(&file.name)?,
            };
            let found = sha256(&bytes);
            if found != file.sha256 {
                let field = format!("source.files, `{}`", file.name.escape_debug());
                return Err(Error::field(&path, field, format!("SHA-256 {}", file.sha256), found));
            }
            Ok((file.name.clone(), bytes))
        })
        .collect()
}
