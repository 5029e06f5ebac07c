import FoundationEssentials
import MeshConfig
import Testing
import Transport

/// Istio's own cases for `analyze`: each runs one analyzer over files and names the codes and objects it must report.
@Suite struct AnalysisTests {
  private struct Case: Decodable {
    struct Message: Decodable {
      let code: String
      let level: String
      let resource: String
      var line: String { "\(level) \(code) \(resource)" }
    }
    let name: String
    let analyzer: String
    let inputs: [String]
    let meshConfig: String?
    let meshNetworks: String?
    let expected: [Message]
  }

  private static let folder: String? = {
    let named = ProcessInfo.processInfo.environment["MESH_CONFORMANCE"]
    let here = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath().path
    let beside = here.components(separatedBy: "/Tests/").first.map { "\($0)/../shared/conformance" }
    return [named, beside].compactMap { $0 }.map { "\($0)/istio/analysis" }.first {
      FileManager.default.fileExists(atPath: "\($0)/cases.json")
    }
  }()

  @Test(.enabled(if: folder != nil, "no conformance data: set MESH_CONFORMANCE to its folder"))
  func `each case gives exactly the expected codes, levels and objects`() throws {
    let folder = try #require(Self.folder)
    let cases = try JSONDecoder().decode([Case].self, from: Data(contentsOf: URL(fileURLWithPath: "\(folder)/cases.json")))
    var passed = 0
    for (index, item) in cases.enumerated() {
      let found = try Self.run(item, in: folder)
      let expected = item.expected.map(\.line).sorted()
      if found == expected { passed += 1 }
      #expect(found == expected, "case \(index), \(item.name) (\(item.analyzer))")
    }
    #expect(!cases.isEmpty)
    print("SUITE analysis \(passed) \(cases.count - passed) 0")
  }

  private static func run(_ item: Case, in folder: String) throws -> [String] {
    func source(_ path: String) throws -> ConfigSource {
      ConfigSource(name: path, bytes: Array(try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\(path)"))))
    }
    let analyzer = try #require(Analyzer.all.first { $0.name == item.analyzer }, "there is no analyzer \(item.analyzer)")
    var input = AnalysisInput { pem in
      guard let certificate = try? Certificate.parse(pem: pem).first else { return "it is no certificate" }
      return certificate.notAfter < Self.today ? "it has expired" : nil
    }
    if let path = item.meshConfig { input.use(meshConfig: try source(path)) }
    if let path = item.meshNetworks { input.use(meshNetworks: try source(path)) }
    input.addDefaultIngressGateway()
    for path in item.inputs { input.add(try source(path)) }
    return analyzer.findings(in: input).map { finding in
      let level =
        switch finding.severity {
        case .error: "Error"
        case .warning: "Warning"
        case .info: "Info"
        }
      return "\(level) \(finding.code) \(finding.object)"
    }.sorted()
  }

  /// 2026: the certificate among the cases expired in 2023.
  private static let today: Int64 = 1_767_225_600
}
