/// Secrets that gateway servers name, as the gateway workload's namespace holds them (Istio, `credentialName`).
struct CredentialIndex {
  struct Credential {
    var source: ServerTLS.Source
    /// Whose clients are trusted, where the Secret says.
    var authorities: [UInt8]?
  }

  private let namespace: String

  init(_ objects: [StoredObject], namespace: String) { self.namespace = namespace }

  func credential(named name: String) -> Credential {
    Credential(source: .missing("there is no Secret \(name) in namespace \(namespace)"))
  }

  /// Of the Secret `<name>-cacert`, or of the one named so itself.
  func authorities(named name: String) -> [UInt8]? { nil }
}
