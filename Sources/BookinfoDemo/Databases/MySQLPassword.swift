import COpenSSL

/// Proofs of a MySQL password for the server's 20-byte challenge.
enum MySQLPassword: String {
  case native = "mysql_native_password"
  case cachingSHA2 = "caching_sha2_password"

  /// Nothing for an empty password, else a digest that shows the password was known.
  func proof(_ password: String, challenge: [UInt8]) -> [UInt8] {
    guard !password.isEmpty else { return [] }
    let once = digest(Array(password.utf8))
    let twice = digest(once)
    let mask =
      switch self {
      case .native: digest(challenge + twice)
      case .cachingSHA2: digest(twice + challenge)
      }
    return zip(once, mask).map { $0 ^ $1 }
  }

  private func digest(_ bytes: [UInt8]) -> [UInt8] {
    let algorithm = self == .native ? EVP_sha1() : EVP_sha256()
    var digest = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
    var count: UInt32 = 0
    EVP_Digest(bytes, bytes.count, &digest, &count, algorithm, nil)
    return Array(digest.prefix(Int(count)))
  }
}
