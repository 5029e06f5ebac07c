import COpenSSL
import HTTPCodec

/// Signs and checks the session cookie: `<name>.<HMAC-SHA-256 of name>`, both in base64url (RFC 4648 5).
struct SessionSigner: Sendable {
  static let cookieName = "session"
  private let key: [UInt8]

  /// A key given by the operator lets several product pages share their sessions.
  init(secret: String) { key = Array(secret.utf8) }

  /// A key of this process only.
  static func random() -> SessionSigner? {
    var key = [UInt8](repeating: 0, count: 32)
    guard RAND_bytes(&key, Int32(key.count)) == 1 else { return nil }
    return SessionSigner(key: key)
  }

  private init(key: [UInt8]) { self.key = key }

  /// The cookie value that names `user`.
  func cookie(for user: String) -> String {
    let name = Array(user.utf8)
    return Base64URL.encode(name) + "." + Base64URL.encode(signature(of: name))
  }

  /// The user a cookie value names; nil when it was not made by this key.
  func user(fromCookie value: some StringProtocol) -> String? {
    let parts = value.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard parts.count == 2, let name = Base64URL.decode(parts[0]), let signature = Base64URL.decode(parts[1]) else {
      return nil
    }
    let expected = self.signature(of: name)
    guard signature.count == expected.count, CRYPTO_memcmp(signature, expected, expected.count) == 0 else { return nil }
    return String(validating: name, as: UTF8.self)
  }

  /// The user of a request's session, nil without one.
  func user(of headers: [HTTPField]) -> String? {
    for field in headers where field.name == "cookie" {
      for pair in field.value.split(separator: ";") {
        let halves = pair.drop(while: { $0 == " " }).split(separator: "=", maxSplits: 1)
        guard halves.count == 2, halves[0] == Self.cookieName else { continue }
        if let user = user(fromCookie: halves[1]) { return user }
      }
    }
    return nil
  }

  private func signature(of bytes: [UInt8]) -> [UInt8] {
    var digest = [UInt8](repeating: 0, count: 32)
    var count: UInt32 = 0
    HMAC(EVP_sha256(), key, Int32(key.count), bytes, bytes.count, &digest, &count)
    return digest
  }
}

/// Base 64 with the URL-safe alphabet and no padding (RFC 4648 5).
enum Base64URL {
  private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
  private static let values: [UInt8: UInt32] = Dictionary(
    uniqueKeysWithValues: alphabet.enumerated().map { ($0.element, UInt32($0.offset)) })

  static func encode(_ bytes: [UInt8]) -> String {
    var text: [UInt8] = []
    var buffer: UInt32 = 0
    var bits = 0
    for byte in bytes {
      buffer = (buffer << 8 | UInt32(byte)) & 0x3FFF
      bits += 8
      while bits >= 6 {
        bits -= 6
        text.append(alphabet[Int(buffer >> UInt32(bits) & 63)])
      }
    }
    if bits > 0 { text.append(alphabet[Int(buffer << UInt32(6 - bits) & 63)]) }
    return String(decoding: text, as: UTF8.self)
  }

  /// Nil for other characters, an impossible length, or set bits after the last byte (one text per value).
  static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
    guard text.count % 4 != 1 else { return nil }
    var bytes: [UInt8] = []
    var buffer: UInt32 = 0
    var bits = 0
    for character in text {
      guard let value = values[character] else { return nil }
      buffer = (buffer << 6 | value) & 0x3FFF
      bits += 6
      if bits >= 8 {
        bits -= 8
        bytes.append(UInt8(truncatingIfNeeded: buffer >> UInt32(bits)))
        buffer &= (1 << UInt32(bits)) - 1
      }
    }
    return buffer == 0 ? bytes : nil
  }
}
