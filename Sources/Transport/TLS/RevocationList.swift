import COpenSSL
import Primitives

/// Owns an OpenSSL revocation list. Immutable once made, and OpenSSL lets threads share it.
final class RevocationHandle: @unchecked Sendable {
  let pointer: OpaquePointer
  init(owning pointer: OpaquePointer) { self.pointer = pointer }
  deinit { X509_CRL_free(pointer) }
}

/// Certificates that an authority has taken back (RFC 5280 5).
public struct RevocationList: Sendable {
  let handle: RevocationHandle

  /// Every list of a PEM text; at least one, at most `TransportLimits.revocationListsMax`.
  public static func parse(pem: [UInt8]) throws(CertificateError) -> [RevocationList] {
    let max = TransportLimits.revocationListsMax
    guard pem.count <= TransportLimits.pemBytesMax else {
      throw .tooLarge("the revocation list", bytesMax: TransportLimits.pemBytesMax)
    }
    var lists: [RevocationList] = []
    var ended = false
    _ = PEMFile.withInput(pem) { bio in
      while lists.count <= max, let next = PEM_read_bio_X509_CRL(bio, nil, { _, _, _, _ in -1 }, nil) {
        lists.append(RevocationList(handle: RevocationHandle(owning: next)))
      }
      ended = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE
    }
    ERR_clear_error()
    guard ended, !lists.isEmpty, lists.count <= max else { throw .malformed("the revocation list") }
    return lists
  }

  public static func load(_ path: String) throws(CertificateError) -> [RevocationList] { try parse(pem: PEMFile.read(path)) }
}
