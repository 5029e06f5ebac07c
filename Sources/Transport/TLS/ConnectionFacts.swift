import COpenSSL
import Glibc
import Primitives

// What a connection and its certificates say of themselves, for logs and headers. Read when it is asked for, never before.
extension TLSSession {
  /// OpenSSL's name of the cipher suite: "TLS_AES_128_GCM_SHA256". Empty before the handshake.
  public var cipher: String {
    guard let cipher = SSL_get_current_cipher(ssl), let name = SSL_CIPHER_get_name(cipher) else { return "" }
    return String(cString: name)
  }

  /// The group whose keys were agreed on: "X25519". Empty before the handshake.
  public var group: String {
    defer { ERR_clear_error() }
    return cossl_group_name(ssl).map { String(cString: $0) } ?? ""
  }

  /// Empty where the session has none (RFC 8446 §4.6.1).
  public var sessionID: [UInt8] {
    var count: UInt32 = 0
    guard let session = SSL_get_session(ssl), let bytes = SSL_SESSION_get_id(session, &count) else { return [] }
    return Array(UnsafeBufferPointer(start: bytes, count: Int(count)))
  }

  /// The name that this client has asked for; nil when it asked for none.
  public var askedName: String? { SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name).map { String(cString: $0) } }

  /// The certificate that this end shows.
  public var ownCertificate: Certificate? {
    guard let pointer = SSL_get_certificate(ssl), X509_up_ref(pointer) == 1 else { return nil }
    return try? Certificate(CertificateHandle(owning: pointer))
  }

  /// What the peer has shown and proved, leaf first; empty unless it was verified.
  public var provenChain: [Certificate] {
    switch verification {
    case .member, .trusted: peerChain
    case .anonymous, .unverified: []
    }
  }
}

extension Certificate {
  /// SHA-1 of the DER form, which only names a certificate.
  public var fingerprintSHA1: [UInt8] {
    var digest = [UInt8](repeating: 0, count: 20)
    var count: UInt32 = 20
    return X509_digest(handle.pointer, EVP_sha1(), &digest, &count) == 1 ? digest : []
  }

  /// Subject alternative names of type IP address.
  public var addresses: [IPAddress] { otherNames(GEN_IPADD).compactMap { IPAddress(bytes: $0) } }
  /// Subject alternative names of type mail address, as the bytes they are.
  public var emails: [[UInt8]] { otherNames(GEN_EMAIL) }

  private func otherNames(_ type: Int32) -> [[UInt8]] {
    guard hasOtherNames, let raw = X509_get_ext_d2i(handle.pointer, NID_subject_alt_name, nil, nil) else { return [] }
    let names = OpaquePointer(raw)
    defer { cossl_names_free(names) }
    var found: [[UInt8]] = []
    for index in 0..<cossl_name_count(names) {
      var count: Int32 = 0
      guard let name = cossl_name_at(names, index), cossl_name_type(name) == type,
        let bytes = cossl_other_name_bytes(name, &count)
      else { continue }
      found.append(Array(UnsafeBufferPointer(start: bytes, count: Int(count))))
    }
    return found
  }
}

extension IPAddress {
  /// The network of so many bits that this address is in, as text: `10.1.0.0/16`. All of an address's bits are the most.
  public func network(bits: UInt8) -> String {
    var bytes = self.bytes
    let kept = min(Int(bits), bytes.count * 8)
    for index in bytes.indices {
      let here = min(8, max(0, kept - index * 8))
      bytes[index] &= UInt8(truncatingIfNeeded: 0xFF00 >> here)
    }
    return "\(IPAddress(bytes: bytes) ?? self)/\(kept)"
  }
}
