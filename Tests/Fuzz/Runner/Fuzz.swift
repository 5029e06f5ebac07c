import FuzzTargets
import Glibc

// Built with -sanitize=fuzzer and -DFUZZING, this is libFuzzer's program for the target that MESH_FUZZ_TARGET names.
// Built without, it names the targets.

#if FUZZING
  @_cdecl("LLVMFuzzerTestOneInput") public func fuzzOne(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    target.run(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
  }

  private let target: FuzzTarget = {
    let name = getenv("MESH_FUZZ_TARGET").map { String(cString: $0) } ?? ""
    guard let target = FuzzTarget(rawValue: name) else { fatalError("MESH_FUZZ_TARGET names no target: '\(name)'") }
    return target
  }()
#else
  @main struct Fuzz {
    static func main() {
      for target in FuzzTarget.allCases { puts(target.rawValue) }
    }
  }
#endif
