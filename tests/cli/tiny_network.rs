pub(crate) fn mirror() -> std::path::PathBuf {
    unimplemented!()
}
