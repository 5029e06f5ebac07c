import Testing

@testable import MeshConfig

@Suite struct SecretTests {
  private static let text = """
    apiVersion: v1
    kind: Secret
    metadata: {name: certificate, namespace: web}
    type: kubernetes.io/tls
    data: {tls.crt: Q0VSVElGSUNBVEU=, tls.key: UFJJVkFURQ==}
    """

  private func secret() throws -> MeshObject { try #require(Fixture.changeSet(Self.text).objects.first) }

  private func values(_ object: MeshObject) -> Secret? {
    if case .secret(let secret) = object.spec { return secret }
    return nil
  }

  @Test func `values are decoded and never printed`() throws {
    let object = try secret()
    #expect(values(object)?.privateKey == Array("PRIVATE".utf8))
    #expect(values(object)?.certificateChain == Array("CERTIFICATE".utf8))
    for text in [object.yaml, String(decoding: object.canonical, as: UTF8.self)] {
      #expect(!text.contains("UFJJVkFURQ") && !text.contains("PRIVATE") && text.contains("REDACTED"))
    }
  }

  @Test func `stored bytes hold the values sealed and give them back to who can open them`() throws {
    let object = try secret()
    let stored = object.stored(sealing: { $0.map { $0 ^ 0xA5 } })
    #expect(!String(decoding: stored, as: UTF8.self).contains("UFJJVkFURQ"))
    let opened = try MeshObject.decode(canonical: stored, opening: { $0.map { $0 ^ 0xA5 } })
    #expect(opened == object)
    let closed = try MeshObject.decode(canonical: stored)
    #expect(values(closed)?.isSealed == true && values(closed)?.data.isEmpty == true)
    #expect(throws: CanonicalError.self) { try MeshObject.decode(canonical: stored, opening: { _ in nil }) }
  }

  @Test func `a changed value is a change although nothing of it is shown`() throws {
    let old = StoredObject(try secret(), created: 1)
    let other = Self.text.replacing("UFJJVkFURQ==", with: "T1RIRVI=")
    let plan = Plan(applying: Fixture.changeSet(other), to: [old], settings: ReferenceRules.Settings())
    #expect(plan.changes.map(\.action) == [.updated])
    #expect(!plan.changes.map { $0.difference.joined() }.joined().contains("T1RIRVI"))
  }

  @Test func `a printed Secret that is applied again keeps its values, and cannot make a new one`() throws {
    let object = try secret()
    let printed = Fixture.changeSet(object.yaml)
    let kept = Plan(applying: printed, to: [StoredObject(object, created: 1)], settings: ReferenceRules.Settings())
    #expect(kept.changes.map(\.action) == [.unchanged] && !kept.hasErrors)
    #expect(Plan(applying: printed, to: [], settings: ReferenceRules.Settings()).hasErrors)
  }

  @Test func `a message about a value that is not base64 does not repeat it`() {
    let findings = Fixture.changeSet(Self.text.replacing("UFJJVkFURQ==", with: "not/base64!")).findings
    #expect(findings.contains { $0.severity == .error && $0.path == "data[tls.key]" })
    #expect(!findings.contains { $0.description.contains("not/base64!") })
  }

  @Test(arguments: 0..<70) func `base64 is read as it is written`(count: Int) {
    let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 37) }
    #expect(Base64Form.decode(Base64Form.encode(bytes)) == bytes)
  }
}
