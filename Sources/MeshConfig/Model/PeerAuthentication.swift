/// Whether a workload's ports demand mutual TLS (`security.istio.io` PeerAuthentication).
public struct PeerAuthentication: Hashable, Sendable {
  public var target: PolicyTarget
  /// nil: inherited.
  public var mode: Mode?
  /// By the port the workload listens on.
  public var ports: [UInt16: Mode]

  public enum Mode: String, CaseIterable, Hashable, Sendable {
    case unset = "UNSET"
    case disable = "DISABLE"
    case permissive = "PERMISSIVE"
    case strict = "STRICT"
  }
}

extension PeerAuthentication: FieldDecodable {
  init(_ fields: inout Fields) {
    let selector: LabelSelector? = fields.object("selector")
    target = PolicyTarget(matchLabels: selector?.labels, references: [])
    mode = (fields.object("mtls") as Setting?).flatMap { $0.mode == .unset ? nil : $0.mode }
    let written: [Keyed<Setting>] = fields.map("portLevelMtls")
    ports = [:]
    for entry in written {
      guard let number = Int(entry.key) else {
        fields.report.error(fields.path / "portLevelMtls" / entry.key, "'\(entry.key.prefix(40))' is not a port number")
        continue
      }
      guard let port = UInt16(exactly: number), port > 0 else {
        fields.report.error(fields.path / "portLevelMtls" / entry.key, "port must be between 1-65535")
        continue
      }
      ports[port] = entry.value.mode
    }
    guard fields.has("portLevelMtls"), !fields.report.hasErrors else { return }
    if written.isEmpty { fields.error("portLevelMtls", "must name at least one port") }
    if target.matchLabels?.isEmpty ?? true { fields.error("portLevelMtls", "portLevelMtls requires selector") }
  }

  private struct Setting: FieldDecodable {
    let mode: PeerAuthentication.Mode
    init(_ fields: inout Fields) { mode = fields.name("mode") ?? .unset }
  }
}
