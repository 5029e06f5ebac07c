import COpenSSL
import CSQLite

/// What this program is.
public enum MeshVersion {
  public static let version = "0.1.0"
}

extension VersionInfo {
  /// Of this process.
  public static var current: VersionInfo {
    VersionInfo(
      version: MeshVersion.version, protocolMinimum: 1, protocolMaximum: 1, swift: swiftVersion,
      openSSL: OpenSSL_version(OPENSSL_VERSION).map { String(cString: $0) } ?? "OpenSSL",
      sqlite: String(cString: sqlite3_libversion()))
  }
}

private var swiftVersion: String {
  #if swift(>=6.4)
    "6.4 or later"
  #elseif swift(>=6.3)
    "6.3"
  #else
    "6.2"
  #endif
}
