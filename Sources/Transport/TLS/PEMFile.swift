import COpenSSL
import Glibc
import Primitives

/// Files of keys and certificates, bounded, and PEM text in and out of OpenSSL.
enum PEMFile {
  static func read(_ path: String) throws(CertificateError) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .file(.last("read \(path)")) }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16 * 1024)
    while true {
      let count = Glibc.read(descriptor, &buffer, buffer.count)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw .file(.last("read \(path)")) }
      if count == 0 { return bytes }
      bytes += buffer[..<count]
      guard bytes.count <= TransportLimits.pemBytesMax else { throw .tooLarge(path, bytesMax: TransportLimits.pemBytesMax) }
    }
  }

  /// Creates a file only its owner can read. It appears whole or not at all, and an existing one is never replaced.
  static func create(_ path: String, _ bytes: UnsafeRawBufferPointer) throws(SystemError) {
    let draft = "\(path).\(hexString(secureRandom(count: 8)))"
    let descriptor = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw .last("create \(path)") }
    defer { unlink(draft) }
    var failure: SystemError?
    var rest = bytes[...]
    while !rest.isEmpty, failure == nil {
      let count = Glibc.write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
      if count > 0 { rest = rest.dropFirst(count) } else if errno != EINTR { failure = .last("write \(path)") }
    }
    if failure == nil, fsync(descriptor) < 0 { failure = .last("write \(path)") }
    close(descriptor)
    if let failure { throw failure }
    guard link(draft, path) == 0 else { throw .last("create \(path)") }
  }

  /// Lends a read-only BIO over bytes.
  static func withInput<Result>(_ bytes: [UInt8], _ body: (OpaquePointer) -> Result) -> Result? {
    bytes.withUnsafeBytes { raw in
      guard raw.count <= Int(Int32.max), let bio = BIO_new_mem_buf(raw.baseAddress, Int32(raw.count)) else { return nil }
      defer { BIO_free(bio) }
      return body(bio)
    }
  }

  /// Lends what `write` puts into a BIO, which is wiped afterwards; nil when it returns other than 1.
  static func withOutput<Result>(
    of write: (OpaquePointer) -> Int32, _ body: (UnsafeRawBufferPointer) -> Result
  ) -> Result? {
    guard let bio = BIO_new(BIO_s_secmem()) else { return nil }
    defer { BIO_free(bio) }
    guard write(bio) == 1 else {
      ERR_clear_error()
      return nil
    }
    var start: UnsafeMutablePointer<CChar>?
    let count = cossl_bio_bytes(bio, &start)
    return body(UnsafeRawBufferPointer(start: start, count: max(0, count)))
  }
}
