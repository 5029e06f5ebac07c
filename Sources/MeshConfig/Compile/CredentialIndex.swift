/// Secrets that gateway servers name, as the gateway workload's namespace holds them (Istio, `credentialName`).
struct CredentialIndex {
  struct Credential {
    var source: ServerTLS.Source
    /// Whose clients are trusted, where the Secret says.
    var authorities: [UInt8]?
  }

  private let secrets: [String: Secret]
  private let namespace: String

  init(_ objects: [StoredObject], namespace: String) {
    var secrets: [String: Secret] = [:]
    for stored in objects where stored.key.namespace == namespace {
      if case .secret(let secret) = stored.object.spec { secrets[stored.key.name] = secret }
    }
    self.secrets = secrets
    self.namespace = namespace
  }

  func credential(named name: String) -> Credential {
    guard let secret = secrets[name] else {
      return Credential(source: .missing("there is no Secret \(name) in namespace \(namespace)"))
    }
    guard let certificate = secret.certificateChain, let key = secret.privateKey else {
      let reason = secret.isSealed ? "cannot be opened on this node" : "holds no certificate and key"
      return Credential(source: .missing("the Secret \(namespace)/\(name) \(reason)"))
    }
    return Credential(
      source: .material(certificate: certificate, key: key), authorities: secret.authorities ?? authorities(named: name))
  }

  /// Of the Secret `<name>-cacert`, or of the one named so itself.
  func authorities(named name: String) -> [UInt8]? { (secrets["\(name)-cacert"] ?? secrets[name])?.authorities }
}
