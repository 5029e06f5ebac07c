extension ChangeSet {
  /// `metadata.resourceVersion` of an object as it was written: the state that the writer saw. nil when none is written.
  public func resourceVersion(of key: ObjectKey) -> String? {
    places[key].flatMap { DocumentTree($0.document)["metadata"]["resourceVersion"].text }
  }

  /// A finding at the place where an object was written.
  public func finding(about key: ObjectKey, code: String, reason: String, hint: String?) -> Finding {
    let place = places[key]
    let position = place?.document.position(of: .root / "metadata" / "resourceVersion")
    return Finding(
      severity: .error, code: code, source: place?.source ?? "", position: position, object: key.description,
      path: "metadata.resourceVersion", reason: reason, hint: hint)
  }
}
