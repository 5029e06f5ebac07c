import FoundationEssentials
import Testing

@testable import MeshConfig

/// The configuration that ships with the demo.
@Suite struct DemoConfigurationTests {
  private func sources(_ folder: String) throws -> [ConfigSource] {
    let here = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath()
    let root = here.deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path
    let base = "\(root)/Sources/BookinfoDemo/Config\(folder)"
    let names = try FileManager.default.contentsOfDirectory(atPath: base).filter { $0.hasSuffix(".yaml") }.sorted()
    return try names.map { name in
      ConfigSource(name: name, bytes: Array(try Data(contentsOf: URL(fileURLWithPath: "\(base)/\(name)"))))
    }
  }

  private func describe(_ findings: [Finding]) -> String { findings.map(\.description).joined(separator: "\n") }

  @Test func `it is accepted without a finding and again when exported`() throws {
    let changeSet = ChangeSet(try sources(""))
    let plan = Plan(applying: changeSet, to: [], settings: ReferenceRules.Settings())
    #expect(plan.findings.isEmpty, "\(describe(plan.findings))")
    let exported = changeSet.objects.map(\.yaml).joined(separator: "---\n")
    #expect(Fixture.changeSet(exported).objects == changeSet.objects)
  }

  @Test func `every example is accepted on top of it`() throws {
    let base = ChangeSet(try sources("")).objects.map { StoredObject($0, created: 1) }
    for source in try sources("/examples") {
      let plan = Plan(applying: ChangeSet([source]), to: base, settings: ReferenceRules.Settings())
      #expect(!plan.hasErrors, "\(describe(plan.findings))")
    }
  }
}
