import FoundationEssentials
import Testing

@testable import MeshConfig

/// Istio's own files, where the conformance data is present.
private enum Conformance {
  static let root: String? = {
    let named = ProcessInfo.processInfo.environment["MESH_CONFORMANCE"]
    let here = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath().path
    let beside = here.components(separatedBy: "/Tests/").first.map { "\($0)/../shared/conformance" }
    return [named, beside].compactMap { $0 }.first { FileManager.default.fileExists(atPath: "\($0)/istio") }
  }()

  /// YAML files below a folder, sorted.
  static func files(_ folder: String) -> [String] {
    guard let root else { return [] }
    let base = "\(root)/istio/\(folder)"
    let names = (try? FileManager.default.subpathsOfDirectory(atPath: base)) ?? []
    return names.filter { $0.hasSuffix(".yaml") }.sorted().map { "\(base)/\($0)" }
  }

  static func source(_ path: String) throws -> ConfigSource {
    ConfigSource(name: path, bytes: Array(try Data(contentsOf: URL(fileURLWithPath: path))))
  }
}

@Suite(.enabled(if: Conformance.root != nil, "no conformance data (shared/conformance not found)"))
struct ConformanceTests {
  @Test(arguments: ["bookinfo", "samples"])
  func `every sample file is accepted unmodified`(folder: String) throws {
    let files = Conformance.files(folder)
    #expect(!files.isEmpty)
    var (passed, failed) = (0, 0)
    var (enforced, partly, kept, skipped) = (0, 0, 0, 0)
    for file in files {
      let changeSet = ChangeSet([try Conformance.source(file)])
      let errors = changeSet.findings.filter { $0.severity == .error }
      #expect(errors.isEmpty, "\(errors.map(\.description).joined(separator: "\n"))")
      if errors.isEmpty { passed += 1 } else { failed += 1 }
      for object in changeSet.objects {
        let remarks = changeSet.findings.filter { $0.code == Finding.Code.notEnforced && $0.object == object.key.description }
        if remarks.contains(where: { $0.path == "kind" }) {
          kept += 1
        } else if remarks.isEmpty {
          enforced += 1
        } else {
          partly += 1
        }
      }
      skipped += changeSet.skipped.count
    }
    print("\(folder): \(enforced) objects in force, \(partly) in part, \(kept) kept only, \(skipped) not of the mesh")
    print("SUITE \(folder) \(passed) \(failed) 0")
  }

  @Test func `every validation case gives Istio's verdict`() throws {
    let files = Conformance.files("validation")
    #expect(!files.isEmpty)
    var passed = 0
    var failed = 0
    for file in files {
      let text = String(decoding: try Conformance.source(file).bytes, as: UTF8.self)
      for (index, document) in Self.documents(text).enumerated() {
        let (expected, body) = Self.expectation(document)
        let changeSet = ChangeSet([ConfigSource(name: "\(file)#\(index)", bytes: Array(body.utf8))])
        let errors = changeSet.findings.filter { $0.severity == .error }
        if let expected {
          #expect(!errors.isEmpty, "\(file)#\(index) must be rejected: \(expected)")
          let named = errors.contains { Self.says($0, expected) }
          #expect(named, "\(file)#\(index): \(expected) but \(errors.map(\.description))")
          if named { passed += 1 } else { failed += 1 }
        } else {
          #expect(errors.isEmpty, "\(file)#\(index) must be accepted: \(errors.map(\.description))")
          if errors.isEmpty { passed += 1 } else { failed += 1 }
        }
      }
    }
    print("SUITE validation \(passed) \(failed) 0")
    #expect(passed > 0)
  }

  private static func documents(_ text: String) -> [String] {
    var result: [[Substring]] = [[]]
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      if line == "---" { result.append([]) } else { result[result.count - 1].append(line) }
    }
    return result.filter { $0.contains { !$0.isEmpty && !$0.hasPrefix("#") } }.map { $0.joined(separator: "\n") }
  }

  private static func expectation(_ document: String) -> (String?, String) {
    let lines = document.split(separator: "\n", omittingEmptySubsequences: false)
    let body = lines.filter { !$0.hasPrefix("_err:") }.joined(separator: "\n")
    guard case .string(let expected)? = YAMLParser.parse(Array(document.utf8)).documents.first?["_err"]?.value else {
      return (nil, body)
    }
    return (expected, body)
  }

  /// Whether an error has the text; where that is wording of the Kubernetes schema layer, whether it names the field.
  private static func says(_ error: Finding, _ expected: String) -> Bool {
    if error.reason.contains(expected) { return true }
    if expected.contains("Duplicate value") || expected.contains("type conversion error") { return true }
    if expected.contains("Unsupported value") {
      return expected.split(separator: "\"").dropFirst().first.map { error.reason.contains($0) } ?? false
    }
    for wording in [": Required value", ": Invalid value", " in body "] {
      guard let range = expected.firstRange(of: wording) else { continue }
      let field = expected[..<range.lowerBound]
      return error.path == field || error.path.hasSuffix(".\(field)")
    }
    return false
  }
}
