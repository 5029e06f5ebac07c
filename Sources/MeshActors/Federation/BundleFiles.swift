import Cluster
import Glibc
import MeshConfig
import Primitives
import Transport

/// The bundles that were fetched last, on the disk: a file for each URL, as its server wrote it. A node that starts while a server
/// is down trusts whom it trusted before.
struct BundleFiles: Sendable {
  private let directory: String

  /// - Parameter directory: is made when there is something to keep.
  init(in directory: String) { self.directory = directory }

  /// What a URL's file holds, and when it was fetched; nil when there is none.
  func load(_ url: HTTPSURL) throws -> (bundle: SPIFFEBundle, unixSeconds: Int64)? {
    let path = path(of: url)
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    let bytes = try readFile(path, bytesMax: FetchLimits.bundleBytesMax)
    return (try SPIFFEBundle(parsing: bytes), Int64(status.st_mtim.tv_sec))
  }

  func keep(_ document: [UInt8], of url: HTTPSURL) throws(FileError) {
    try createDirectories(directory)
    try replaceFile(path(of: url), with: document, mode: 0o600)
  }

  /// Notes that what is kept was fetched again just now; false where nothing is kept.
  func renew(_ url: HTTPSURL) -> Bool { utimes(path(of: url), nil) == 0 }

  /// Removes what is there of other URLs.
  func keepOnly(_ urls: [HTTPSURL]) {
    guard let listing = opendir(directory) else { return }
    defer { closedir(listing) }
    let wanted = Set(urls.map(name))
    while let entry = readdir(listing) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name != ".", name != "..", !wanted.contains(name) { unlink("\(directory)/\(name)") }
    }
  }

  private func path(of url: HTTPSURL) -> String { "\(directory)/\(name(of: url))" }

  /// A URL may be longer than a file's name.
  private func name(of url: HTTPSURL) -> String { "\(hexString(SHA256.hash(Array(url.description.utf8)))).json" }
}
