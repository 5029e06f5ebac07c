import FoundationEssentials
import FuzzTargets
import Testing

/// Every input that fuzzing ever found worth keeping, and some noise around it, without a fuzzer.
@Suite struct CorpusTests {
  private static let corpus = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Fuzz/Corpus")

  private func inputs(_ target: FuzzTarget) throws -> [(name: String, bytes: [UInt8])] {
    let folder = Self.corpus.appending(path: target.rawValue).path
    return try FileManager.default.contentsOfDirectory(atPath: folder).sorted().map { name in
      (name, [UInt8](try Data(contentsOf: URL(filePath: folder).appending(path: name))))
    }
  }

  @Test(arguments: FuzzTarget.allCases) func `The corpus breaks no promise`(_ target: FuzzTarget) throws {
    let inputs = try inputs(target)
    #expect(!inputs.isEmpty)
    for input in inputs { target.run(input.bytes) }
  }

  @Test(arguments: FuzzTarget.allCases) func `Nor do its inputs cut short, or with one byte changed`(_ target: FuzzTarget)
    throws
  {
    for input in try inputs(target) where input.bytes.count <= 300 {
      for index in input.bytes.indices {
        target.run(Array(input.bytes[..<index]))
        var changed = input.bytes
        changed[index] ^= UInt8(truncatingIfNeeded: 1 << (index % 8))
        target.run(changed)
      }
    }
  }
}
