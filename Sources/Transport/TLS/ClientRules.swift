import COpenSSL
import Primitives

/// Which clients outside the mesh a server accepts (Istio, Gateway `tls`).
public struct ClientRules: Sendable {
  public let authorities: [Certificate]
  /// A client without a certificate is refused.
  public let isRequired: Bool
  /// DNS names, addresses or URIs of which its certificate must hold one; empty: any trusted one.
  public let names: [String]
  /// Base64 of SHA-256 of its public key (`SubjectPublicKeyInfo`), one of which must fit; empty: any.
  public let publicKeyHashes: [String]
  /// Hexadecimal SHA-256 of its certificate in lower case; empty: any.
  public let certificateHashes: [String]
  /// A client whose certificate is refused is let in as if it had shown none (Envoy, `ACCEPT_UNTRUSTED`).
  public let acceptsUnverified: Bool

  public init(
    authorities: [Certificate], isRequired: Bool, names: [String] = [], publicKeyHashes: [String] = [],
    certificateHashes: [String] = [], acceptsUnverified: Bool = false
  ) {
    self.authorities = authorities
    self.isRequired = isRequired
    self.names = names
    self.publicKeyHashes = publicKeyHashes
    self.certificateHashes = certificateHashes
    self.acceptsUnverified = acceptsUnverified
  }

  /// Refuses a trusted client that is not one of those named.
  func check(_ leaf: Certificate) throws(CertificateError) {
    if !names.isEmpty, !names.contains(where: leaf.isFor) { throw .wrongHost(names.joined(separator: ", ")) }
    guard !publicKeyHashes.isEmpty || !certificateHashes.isEmpty else { return }
    // Either kind of pin is enough (Envoy, CertificateValidationContext).
    if certificateHashes.contains(hexString(leaf.fingerprint)) { return }
    let hash = Base64Text.encode(SHA256.hash(try leaf.publicKey.der))
    guard publicKeyHashes.contains(hash) else { throw .unexpectedIdentity(leaf.subject) }
  }
}

/// Base64 with padding (RFC 4648 4).
enum Base64Text {
  private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  static func encode(_ bytes: [UInt8]) -> String {
    var text: [UInt8] = []
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let group = bytes[start..<min(start + 3, bytes.count)]
      let bits = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << (8 * UInt32(3 - group.count))
      for index in 0..<4 {
        text.append(index <= group.count ? alphabet[Int(bits >> (18 - 6 * UInt32(index)) & 63)] : 0x3D)
      }
    }
    return String(decoding: text, as: UTF8.self)
  }
}
