//! Objects as files: one file an object with its description at the end, so that content and description change in one
//! rename and an acknowledged write is on disk. The layout is private to the embedded server.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use s3s::crypto::{Checksum as _, Md5};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWriteExt, BufWriter};

/// Ends every object's file, behind the description and its length.
const MAGIC: &[u8; 8] = b"hansobj1";
/// Length of the description's length and the magic.
const TAIL_BYTES: u64 = 12;
/// A file's name may have 255 bytes; two are taken by the suffix.
const COMPONENT_BYTES_MAX: usize = 253;
/// How often a write is placed anew when a concurrent delete pruned its directory.
const PLACE_ATTEMPTS: u32 = 8;

/// What is known of an object beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Description {
    /// MD5 in hex, for multipart uploads of the parts' MD5s, with their number.
    pub(super) etag: String,
    /// As the writer gave it.
    pub(super) content_type: Option<String>,
    /// SHA-256 in base64, where the writer gave it.
    pub(super) sha256: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub(super) modified_ms: u64,
}

impl Description {
    pub(super) fn modified(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.modified_ms)
    }
}

/// An object, opened: the file stands at the content's begin and stays readable when the object is replaced.
pub(super) struct Opened {
    pub(super) file: fs::File,
    pub(super) bytes: u64,
    pub(super) description: Description,
}

/// A directory of objects.
#[derive(Debug, Clone)]
pub(super) struct Files {
    root: PathBuf,
}

impl Files {
    /// Opens a directory, creating it where it is missing, and drops drafts that a crash left.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let files = Self { root: root.to_owned() };
        let drafts = files.drafts();
        if drafts.exists() {
            fs::remove_dir_all(&drafts)?;
        }
        create_dirs(&drafts)?;
        create_dirs(&root.join("buckets"))?;
        create_dirs(&root.join("uploads"))?;
        Ok(files)
    }

    fn drafts(&self) -> PathBuf {
        self.root.join("drafts")
    }

    /// Where a bucket's objects are.
    pub(super) fn bucket(&self, bucket: &str) -> PathBuf {
        self.root.join("buckets").join(format!("{}.d", escaped(bucket)))
    }

    /// Creates a bucket; done if it is there.
    pub(super) fn create_bucket(&self, bucket: &str) -> io::Result<()> {
        create_dirs(&self.bucket(bucket))
    }

    /// Where the parts of a multipart upload wait.
    pub(super) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// The file of an object, or `None` where a part of the key is too long for a file's name.
    pub(super) fn object(&self, bucket: &str, key: &str) -> Option<PathBuf> {
        let mut path = self.bucket(bucket);
        let (above, last) = key.rsplit_once('/').map_or((None, key), |(above, last)| (Some(above), last));
        for component in above.iter().flat_map(|above| above.split('/')) {
            let escaped = escaped(component);
            if escaped.len() > COMPONENT_BYTES_MAX {
                return None;
            }
            path.push(format!("{escaped}.d"));
        }
        let last = escaped(last);
        if last.len() > COMPONENT_BYTES_MAX {
            return None;
        }
        path.push(format!("{last}.o"));
        Some(path)
    }

    /// Begins to write an object.
    pub(super) async fn draft(&self) -> io::Result<Draft> {
        let path = self.drafts().join(uuid::Uuid::new_v4().simple().to_string());
        let file = BufWriter::with_capacity(1 << 18, tokio::fs::File::create(&path).await?);
        Ok(Draft { path, file, md5: Md5::new() })
    }

    /// Deletes an object's file and the directories that this leaves empty; done if it is not there.
    pub(super) fn remove(&self, bucket: &str, object: &Path) -> io::Result<()> {
        match fs::remove_file(object) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        let bucket = self.bucket(bucket);
        let mut above = object.parent();
        while let Some(directory) = above
            && directory != bucket
            && fs::remove_dir(directory).is_ok()
        {
            above = directory.parent();
        }
        sync_dir(above.unwrap_or(&bucket))
    }

    /// The keys of a bucket below `prefix` and after `after`, in order.
    pub(super) fn keys(&self, bucket: &str, prefix: &str, after: &str) -> io::Result<Vec<String>> {
        let mut keys = Vec::new();
        let mut directory = self.bucket(bucket);
        let above = prefix.rsplit_once('/').map(|(above, _)| above);
        for component in above.iter().flat_map(|above| above.split('/')) {
            directory.push(format!("{}.d", escaped(component)));
        }
        let begin = above.map(|above| format!("{above}/")).unwrap_or_default();
        let mut waiting = vec![(directory, begin)];
        while let Some((directory, begin)) = waiting.pop() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let path = entry?.path();
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
                if let Some(component) = name.strip_suffix(".o") {
                    let key = format!("{begin}{}", unescaped(component));
                    if key.starts_with(prefix) && key.as_str() > after {
                        keys.push(key);
                    }
                } else if let Some(component) = name.strip_suffix(".d") {
                    let begin = format!("{begin}{}/", unescaped(component));
                    // A subtree that lies wholly at or before the mark is not entered.
                    if begin.as_str() > after || after.starts_with(&begin) {
                        waiting.push((path, begin));
                    }
                }
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }
}

/// Opens an object's file and reads its description.
pub(super) fn open_object(path: &Path) -> io::Result<Opened> {
    let corrupt = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    let tail_at = length.checked_sub(TAIL_BYTES).ok_or_else(|| corrupt("no tail"))?;
    file.seek(SeekFrom::Start(tail_at))?;
    let mut tail = [0_u8; 12];
    file.read_exact(&mut tail)?;
    let (size, magic) = tail.split_at(4);
    if magic != MAGIC {
        return Err(corrupt("no magic"));
    }
    let size = u32::from_le_bytes(size.try_into().map_err(|_| corrupt("no length"))?);
    let bytes =
        tail_at.checked_sub(u64::from(size)).ok_or_else(|| corrupt("description longer than the file"))?;
    file.seek(SeekFrom::Start(bytes))?;
    let mut description = vec![0; size as usize];
    file.read_exact(&mut description)?;
    let description = serde_json::from_slice(&description).map_err(|error| corrupt(&error.to_string()))?;
    file.seek(SeekFrom::Start(0))?;
    Ok(Opened { file, bytes, description })
}

/// An object being written: invisible until committed, gone when dropped.
pub(super) struct Draft {
    path: PathBuf,
    file: BufWriter<tokio::fs::File>,
    md5: Md5,
}

impl Draft {
    /// Appends to the content.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.md5.update(bytes);
        self.file.write_all(bytes).await
    }

    /// Makes the content visible under `at`, durable when it returns. `etag` replaces the content's MD5.
    pub(super) async fn commit(
        mut self,
        at: PathBuf,
        content_type: Option<String>,
        sha256: Option<String>,
        etag: Option<String>,
    ) -> io::Result<Description> {
        let md5 = std::mem::replace(&mut self.md5, Md5::new());
        let modified = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let description = Description {
            etag: etag.unwrap_or_else(|| hex::encode(md5.finalize())),
            content_type,
            sha256,
            modified_ms: u64::try_from(modified.as_millis()).unwrap_or(u64::MAX),
        };
        let tail = serde_json::to_vec(&description).map_err(io::Error::other)?;
        self.file.write_all(&tail).await?;
        self.file.write_all(&u32::try_from(tail.len()).map_err(io::Error::other)?.to_le_bytes()).await?;
        self.file.write_all(MAGIC).await?;
        self.file.flush().await?;
        self.file.get_ref().sync_all().await?;
        let draft = self.path.clone();
        tokio::task::spawn_blocking(move || place(&draft, &at)).await.map_err(io::Error::other)??;
        Ok(description)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a commit there is nothing under this name any more, which is the one error expected here.
        let _gone = fs::remove_file(&self.path);
    }
}

/// Renames a finished draft into place and makes the rename durable.
fn place(draft: &Path, at: &Path) -> io::Result<()> {
    let parent = at.parent().ok_or_else(|| io::Error::other("an object has no directory"))?;
    let mut attempt = 1;
    loop {
        let placed = create_dirs(parent).and_then(|()| fs::rename(draft, at)).and_then(|()| sync_dir(parent));
        match placed {
            Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < PLACE_ATTEMPTS => attempt += 1,
            other => return other,
        }
    }
}

/// Creates a directory and those above it; each new entry is durable.
pub(super) fn create_dirs(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent();
    if let Some(above) = above {
        create_dirs(above)?;
    }
    match fs::create_dir(path) {
        Ok(()) => above.map_or(Ok(()), sync_dir),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    fs::File::open(path)?.sync_all()
}

/// A key's component as a file's name: letters, digits, `-`, `_` and `.` stay, so that `..` cannot climb because a
/// suffix always follows.
fn escaped(component: &str) -> String {
    let mut name = String::with_capacity(component.len());
    for byte in component.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}

fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                let digit =
                    |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                bytes.push(digit(high).unwrap_or(0) << 4 | digit(low).unwrap_or(0));
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_reversible_and_never_climb() {
        for component in ["", ".", "..", "a b", "ü", "%41", "plain-1_2.3"] {
            assert_eq!(unescaped(&escaped(component)), component);
        }
        let directory = tempfile::tempdir().expect("a directory");
        let files = Files::open(directory.path()).expect("opens");
        let path = files.object("bucket", "uploads/../../x").expect("a path");
        assert!(path.starts_with(files.bucket("bucket")));
        assert!(path.components().all(|part| part != std::path::Component::ParentDir));
        assert_eq!(files.object("bucket", &"x".repeat(254)), None);
    }

    #[tokio::test]
    async fn a_dropped_draft_leaves_nothing_and_a_cut_file_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = Files::open(directory.path()).expect("opens");
        let mut draft = files.draft().await.expect("a draft");
        draft.write(b"half").await.expect("writes");
        drop(draft);
        assert_eq!(fs::read_dir(files.drafts()).expect("reads").count(), 0);

        let at = files.object("bucket", "a/b").expect("a path");
        let mut draft = files.draft().await.expect("a draft");
        draft.write(b"whole").await.expect("writes");
        let description = draft.commit(at.clone(), None, None, None).await.expect("commits");
        assert_eq!(description.etag, hex::encode(Md5::checksum(b"whole")));
        assert_eq!(open_object(&at).expect("opens").bytes, 5);
        let whole = fs::read(&at).expect("reads");
        fs::write(&at, &whole[..whole.len() - 1]).expect("writes");
        let error = open_object(&at).err().expect("told");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        files.remove("bucket", &at).expect("removes");
        assert_eq!(fs::read_dir(files.bucket("bucket")).expect("reads").count(), 0);
    }
}
