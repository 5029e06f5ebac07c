import FoundationEssentials
import Testing

/// What `apply` says is not enforced, and what the map of fields says is kept, are the same.
@Suite struct FieldsTests {
  /// The files that decode and check the objects this holds for.
  static let files = [
    "Model/ServiceEntry+Decoding.swift", "Model/Sidecar.swift", "Model/DestinationRule+Decoding.swift",
    "Model/KubernetesService.swift", "Model/VirtualService+Decoding.swift", "Model/WorkloadGroup.swift",
    "Validation/ServiceEntryRules.swift",
  ]

  /// Sections of the map and the fields that they call kept.
  static let kept: [String: Set<String>] = [
    "VirtualService": ["statPrefix", "sourceSubnet"],
    "DestinationRule": ["zoneAwareLbSetting", "backendUtilization", "tunnel"],
    "ServiceEntry, WorkloadEntry, WorkloadGroup": [],
    "Sidecar": ["egressProxy"],
  ]

  /// Names after the last `/ "` of each place that reports a field as not enforced.
  static func reported() throws -> Set<String> {
    var names: Set<String> = []
    for name in files {
      let path = "Sources/MeshConfig/\(name)"
      let file = try #require(SourceTree.files.first { $0.path == path }, "\(path) is gone")
      let text = file.lines.joined(separator: "\n")
      for call in text.split(separator: "notEnforced(", omittingEmptySubsequences: false).dropFirst() {
        let argument = call.prefix { $0 != "," }
        let quoted = argument.split(separator: "\"")
        names.insert(String(quoted.count > 1 ? quoted[1] : quoted.first ?? ""))
      }
    }
    return names
  }

  @Test func `every field that is reported as not enforced is called kept, and no other`() throws {
    #expect(try Self.reported() == Self.kept.values.reduce(into: []) { $0.formUnion($1) })
    let bytes = try #require(FileManager.default.contents(atPath: SourceTree.root.appending(path: "docs/fields.md").path))
    let sections = String(decoding: bytes, as: UTF8.self).split(separator: "\n## ")
    for (title, names) in Self.kept {
      let section = try #require(sections.first { $0.hasPrefix("\(title)\n") }, "no section \(title)")
      let rows = section.split(separator: "\n").filter { $0.hasPrefix("|") }
      let keptRows = rows.filter { $0.split(separator: "|").dropFirst().first?.contains("kept") == true }
      for name in names {
        #expect(
          keptRows.contains { $0.contains("\(name)`") || $0.contains("`\(name)") }, "\(title) does not say that \(name) is kept"
        )
      }
      #expect(keptRows.count <= names.count + Self.otherKeptRows[title, default: 0], "\(title): \(keptRows)")
    }
  }

  /// Rows that keep parts which are no fields: `%…%` that is not known, a deprecated field that Istio ignores as well.
  private static let otherKeptRows = ["VirtualService": 1, "DestinationRule": 1]
}
