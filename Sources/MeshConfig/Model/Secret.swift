/// Certificates and keys for TLS (Kubernetes `Secret` and `ConfigMap`).
///
/// The values exist in memory only: what is stored is sealed, and what is printed says that something is there.
public struct Secret: Hashable, Sendable {
  public var type: String
  /// Decoded values by key; empty in a Secret that was read without its seal's key.
  public var data: [String: [UInt8]]
  /// The values are not here: it was stored sealed and has not been opened, or it is an export, where they are left out.
  public var isSealed: Bool

  /// PEM: the server's or client's certificate chain (`tls.crt`, or `cert` of the generic form).
  public var certificateChain: [UInt8]? { data["tls.crt"] ?? data["cert"] }
  /// PEM: the private key (`tls.key`, or `key`).
  public var privateKey: [UInt8]? { data["tls.key"] ?? data["key"] }
  /// PEM: authorities that peers are verified with (`ca.crt`, or `cacert`).
  public var authorities: [UInt8]? { data["ca.crt"] ?? data["cacert"] }
  /// PEM: revocation list (`ca.crl`, or `crl`).
  public var revocations: [UInt8]? { data["ca.crl"] ?? data["crl"] }

  public static let tlsType = "kubernetes.io/tls"
}

/// Plain data (Kubernetes `ConfigMap`); here it carries authorities under `ca.crt`.
public struct ConfigMap: Hashable, Sendable {
  public var data: [String: String]
  public var authorities: [UInt8]? { data["ca.crt"].map { Array($0.utf8) } }
}

extension Secret: FieldDecodable {
  init(_ fields: inout Fields) {
    type = fields.string("type") ?? "Opaque"
    let encoded = fields.stringMap("data")
    let plain = fields.stringMap("stringData")
    let isRedacted = encoded.values.contains(SealedSecret.redaction)
    isSealed = fields.has("sealed") || isRedacted
    fields.ignoreOthers()
    data = [:]
    if isSealed { return }
    for (key, text) in encoded.sorted(by: { $0.key < $1.key }) {
      let compact = String(decoding: text.utf8.filter { $0 != 0x0A && $0 != 0x0D && $0 != 0x20 }, as: UTF8.self)
      guard let bytes = Base64Form.decode(compact) else {
        // The value itself must not reach a message.
        fields.report.error(fields.path / "data" / key, "not base64", hint: "plain text belongs into stringData")
        continue
      }
      data[key] = bytes
    }
    for (key, text) in plain { data[key] = Array(text.utf8) }
    if type == Self.tlsType {
      for key in ["tls.crt", "tls.key"] where data[key] == nil && !fields.report.hasErrors {
        fields.report.error(fields.path / "data", "a \(type) Secret needs \(key)")
      }
    }
  }
}

extension ConfigMap: FieldDecodable {
  init(_ fields: inout Fields) {
    data = fields.stringMap("data")
    fields.ignoreOthers()
  }
}
