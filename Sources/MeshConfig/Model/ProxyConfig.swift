/// Settings of proxies (`networking.istio.io` ProxyConfig). A node has one proxy for all of its workloads, so they are kept only.
public struct ProxyConfig: Hashable, Sendable {
  public var target: PolicyTarget
  /// Worker threads; 0: one a core.
  public var concurrency: Int?
  public var environmentVariables: [String: String]
}

extension ProxyConfig: FieldDecodable {
  init(_ fields: inout Fields) {
    let selector: LabelSelector? = fields.object("selector")
    target = PolicyTarget(matchLabels: selector?.labels, references: [])
    concurrency = fields.int("concurrency", in: 0...Int(Int32.max))
    environmentVariables = fields.stringMap("environmentVariables")
    for (name, value) in environmentVariables.sorted(by: { $0.key < $1.key }) where value.utf8.count > 2048 {
      fields.report.error(fields.path / "environmentVariables" / name, "at most 2048 bytes")
    }
    _ = fields.object("image") as Image?
  }

  private struct Image: FieldDecodable {
    init(_ fields: inout Fields) { _ = fields.string("imageType") }
  }
}
