import FoundationEssentials
import Testing

/// One Swift file of this package.
struct SourceFile: Sendable, CustomTestStringConvertible {
  /// Path from the package root, such as `Sources/Proxy/Worker.swift`.
  let path: String
  let lines: [Substring]
  /// Lines without comments and texts, so that only code is judged; the numbers start at 1.
  let code: [(number: Int, text: String)]

  init(path: String, lines: [Substring]) {
    self.path = path
    self.lines = lines
    code = Self.code(of: lines)
  }

  /// The target it belongs to: `Proxy`, `TrafficTests`.
  var target: String { String(path.split(separator: "/")[1]) }
  var testDescription: String { path }

  private static func code(of lines: [Substring]) -> [(number: Int, text: String)] {
    var result: [(Int, String)] = []
    var isInLongText = false
    for (index, line) in lines.enumerated() {
      let delimiters = line.utf8.count < 3 ? 0 : line.ranges(of: "\"\"\"").count
      if !isInLongText { result.append((index + 1, withoutTextAndComment(line))) }
      if delimiters % 2 == 1 { isInLongText.toggle() }
    }
    return result
  }

  /// Cuts what stands between quotation marks, and what follows `//` outside them.
  static func withoutTextAndComment(_ line: Substring) -> String {
    var kept: [UInt8] = []
    var isInText = false
    var previous: UInt8 = 0
    for byte in line.utf8 {
      if byte == UInt8(ascii: "\"") && previous != UInt8(ascii: "\\") { isInText.toggle() }
      if !isInText {
        if byte == UInt8(ascii: "/") && previous == byte {
          kept.removeLast()
          break
        }
        kept.append(byte)
      }
      previous = previous == UInt8(ascii: "\\") && byte == previous ? 0 : byte
    }
    return String(decoding: kept, as: UTF8.self)
  }

  /// The modules that this file imports.
  var imports: [(number: Int, module: String)] {
    code.compactMap { number, text in
      let words = text.split(separator: " ")
      guard let keyword = words.firstIndex(of: "import"), words[..<keyword].allSatisfy(Self.importModifiers.contains),
        words.count > keyword + 1
      else { return nil }
      return (number, String(words[keyword + 1].prefix { $0 != "." }))
    }
  }

  private static let importModifiers: Set<Substring> = [
    "@testable", "@preconcurrency", "public", "package", "internal", "private",
  ]
}

/// The package around this test.
enum SourceTree {
  static let root: URL = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  /// All Swift files, sorted by path.
  static let files: [SourceFile] = read("Sources") + read("Tests")

  private static func read(_ folder: String) -> [SourceFile] {
    let folderPath = root.appending(path: folder).resolvingSymlinksInPath().path
    let names = (try? FileManager.default.subpathsOfDirectory(atPath: folderPath)) ?? []
    return names.filter { $0.hasSuffix(".swift") }.sorted().map { name in
      let bytes = FileManager.default.contents(atPath: "\(folderPath)/\(name)") ?? Data()
      let text = String(decoding: bytes, as: UTF8.self)
      return SourceFile(path: "\(folder)/\(name)", lines: text.split(separator: "\n", omittingEmptySubsequences: false))
    }
  }
}
