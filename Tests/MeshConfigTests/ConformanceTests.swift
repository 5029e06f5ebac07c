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
    var accepted = 0
    var skipped = 0
    for file in files {
      let changeSet = ChangeSet([try Conformance.source(file)])
      let errors = changeSet.findings.filter { $0.severity == .error }
      #expect(errors.isEmpty, "\(errors.map(\.description).joined(separator: "\n"))")
      accepted += changeSet.objects.count
      skipped += changeSet.skipped.count
    }
    print("\(folder): \(files.count) files, \(accepted) objects accepted, \(skipped) skipped")
  }

  @Test func `the validation cases of supported kinds give Istio's verdict`() throws {
    let files = Conformance.files("validation")
    #expect(!files.isEmpty)
    var passed = 0
    var others = 0
    for file in files {
      let text = String(decoding: try Conformance.source(file).bytes, as: UTF8.self)
      for (index, document) in Self.documents(text).enumerated() {
        guard case .string(let kind)? = YAMLParser.parse(Array(document.utf8)).documents.first?["kind"]?.value,
          ObjectKind(rawValue: kind) != nil
        else {
          others += 1
          continue
        }
        let (expected, body) = Self.expectation(document)
        let changeSet = ChangeSet([ConfigSource(name: "\(file)#\(index)", bytes: Array(body.utf8))])
        let errors = changeSet.findings.filter { $0.severity == .error }
        if let expected {
          #expect(!errors.isEmpty, "\(file)#\(index) must be rejected: \(expected)")
          let named = errors.contains { $0.reason.contains(expected) || Self.isSchemaText(expected) }
          #expect(named, "\(file)#\(index): \(expected) but \(errors.map(\.description))")
        } else {
          #expect(errors.isEmpty, "\(file)#\(index) must be accepted: \(errors.map(\.description))")
        }
        passed += 1
      }
    }
    print("validation: \(passed) cases of supported kinds ran, \(others) of other kinds were left out")
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

  /// Wording of the Kubernetes schema layer: rejecting is enough.
  private static func isSchemaText(_ text: String) -> Bool {
    ["Required value", "Invalid value", "Unsupported value", "Duplicate value", " in body should ", "type conversion error"]
      .contains { text.contains($0) }
  }
}
