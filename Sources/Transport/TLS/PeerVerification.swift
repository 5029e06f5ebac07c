import COpenSSL
import Glibc
import Primitives

/// What is known of a peer once the handshake is done.
public enum PeerVerification: Hashable, Sendable {
  /// It was not asked for a certificate, or gave none where none was required.
  case anonymous
  /// It holds the key of a certificate that names this member, under the bundle.
  case member(SPIFFEID)
  /// It holds the key of a trusted certificate for an expected name, outside the mesh.
  case trusted
  /// It holds the key of a certificate that verification refuses (`TLSTrust.reported` lets it through, and rules for clients may).
  case unverified(CertificateError)
}

extension PeerVerification {
  typealias Callback = @convention(c) (OpaquePointer?, UnsafeMutableRawPointer?) -> Int32

  /// Runs inside the handshake, in place of OpenSSL's verification; records the verdict in the session.
  static let callback: Callback = { context, _ in
    guard let context,
      let raw = X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx()),
      let session = TLSSession.of(OpaquePointer(raw))
    else { return 0 }
    let verdict: PeerVerification
    do throws(CertificateError) {
      let chain = try chain(of: context)
      session.record(chain: chain)
      verdict = try judge(chain, context, session)
    } catch {
      verdict = .unverified(error)
    }
    session.record(verdict)
    guard case .unverified(let reason) = verdict else {
      X509_STORE_CTX_set_error(context, X509_V_OK)
      return 1
    }
    if session.context.trust.acceptsUnverified {
      X509_STORE_CTX_set_error(context, X509_V_OK)
      return 1
    }
    X509_STORE_CTX_set_error(context, reason.verificationCode)
    return 0
  }

  private static func chain(of context: OpaquePointer) throws(CertificateError) -> [Certificate] {
    let sent = X509_STORE_CTX_get0_untrusted(context)
    guard cossl_certificate_count(sent) <= TransportLimits.chainCertificatesMax else { throw .chainTooLong }
    var chain: [Certificate] = []
    for index in 0..<cossl_certificate_count(sent) {
      guard let certificate = cossl_certificate_at(sent, index), X509_up_ref(certificate) == 1 else { throw .noCertificate }
      chain.append(try Certificate(CertificateHandle(owning: certificate)))
    }
    return chain
  }

  private static func judge(
    _ chain: [Certificate], _ context: OpaquePointer, _ session: TLSSession
  ) throws(CertificateError) -> PeerVerification {
    let peer: PeerRole = session.context.role == .server ? .client : .server
    switch session.context.trust {
    case .nobody: return .anonymous
    case .members(let bundle, _), .reported(let bundle):
      let identity = try bundle.verify(chain: chain, at: Int64(time(nil)), as: peer)
      if case .members(let expected) = session.expected, !expected.contains(identity) {
        throw .unexpectedIdentity(identity.description)
      }
      return .member(identity)
    case .system, .authorities:
      guard X509_verify_cert(context) == 1 else {
        throw CertificateError(verification: X509_STORE_CTX_get_error(context))
      }
      guard let leaf = chain.first else { throw .noCertificate }
      if case .names(let names) = session.expected, !names.contains(where: leaf.isFor) {
        throw .wrongHost(names.joined(separator: ", "))
      }
      return .trusted
    case .clients(let rules):
      guard X509_verify_cert(context) == 1 else {
        throw CertificateError(verification: X509_STORE_CTX_get_error(context))
      }
      guard let leaf = chain.first else { throw .noCertificate }
      try rules.check(leaf)
      return .trusted
    }
  }
}

extension TLSTrust {
  /// Whether who shows a certificate that is refused stays connected, unverified.
  fileprivate var acceptsUnverified: Bool {
    switch self {
    case .reported: true
    case .clients(let rules): rules.acceptsUnverified
    case .nobody, .members, .system, .authorities: false
    }
  }
}

extension Certificate {
  /// Whether it is for a DNS name, an IP address or a URI. The common name is not looked at (RFC 6125 §6.4.4).
  func isFor(_ name: String) -> Bool {
    if name.utf8.contains(0x3A), IPAddress(name) == nil { return uris.contains { $0.elementsEqual(name.utf8) } }
    if IPAddress(name) != nil { return X509_check_ip_asc(handle.pointer, name, 0) == 1 }
    let flags = UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT)
    return X509_check_host(handle.pointer, name, name.utf8.count, flags, nil) == 1
  }
}
