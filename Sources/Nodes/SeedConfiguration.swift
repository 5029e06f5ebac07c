import Cluster
import Glibc
import MeshActors

/// The configuration that a cluster file names: files, and the YAML and JSON files directly in folders.
public enum SeedConfiguration {
  /// Bytes of all files together.
  static let bytesMax = 8 << 20

  static func sources(_ file: ClusterFile) throws(FileError) -> [ConfigChange.Source] {
    var sources: [ConfigChange.Source] = []
    for name in file.config {
      for path in try files(at: file.resolved(name)) {
        let bytes = try readFile(path, bytesMax: bytesMax)
        guard let text = String(validating: bytes, as: UTF8.self) else { throw FileError("\(path): not valid UTF-8") }
        sources.append(ConfigChange.Source(name: path, text: text))
      }
    }
    return sources
  }

  /// The path itself, or the configuration files directly in it, sorted by name.
  ///
  /// - Parameter isRecursive: those of folders within, too.
  public static func files(at path: String, isRecursive: Bool = false) throws(FileError) -> [String] {
    let names = try files(at: path, depth: isRecursive ? depthMax : 0)
    guard !names.isEmpty else { throw FileError("\(path): no *.yaml, *.yml or *.json file in this folder") }
    return names.sorted()
  }

  /// Folders within folders, so that a link to a folder above ends.
  private static let depthMax = 16

  private static func files(at path: String, depth: Int) throws(FileError) -> [String] {
    var info = stat()
    guard stat(path, &info) == 0 else { throw FileError("\(path): \(String(cString: strerror(errno)))") }
    guard info.st_mode & S_IFMT == S_IFDIR else { return [path] }
    guard let directory = opendir(path) else { throw FileError("\(path): \(String(cString: strerror(errno)))") }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name.hasPrefix(".") { continue }
      let inside = "\(path)/\(name)"
      if depth > 0, stat(inside, &info) == 0, info.st_mode & S_IFMT == S_IFDIR {
        names += try files(at: inside, depth: depth - 1)
      } else if [".yaml", ".yml", ".json"].contains(where: name.hasSuffix) {
        names.append(inside)
      }
    }
    return names
  }
}
