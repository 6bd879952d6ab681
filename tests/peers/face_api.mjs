// Runs face-api.js itself, with the TensorFlow.js inside it, on a picture: the reference of test_tiny_face.py.
// Arguments: the library (an ES module), the folder of the weights, a file of float32 pixels, height, width, size.
import fs from 'fs';
import { pathToFileURL } from 'url';

// The library looks for a browser: a drawing surface, an image element.
globalThis.window = globalThis;
globalThis.document = { createElement: () => ({ getContext: () => null }) };
class Absent {}

const [library, folder, picture, height, width, size] = process.argv.slice(2);
const faceapi = await import(pathToFileURL(library));
const names = { Canvas: Absent, CanvasRenderingContext2D: Absent, Image: Absent, ImageData: Absent, Video: Absent };
const makers = { createCanvasElement: () => new Absent(), createImageElement: () => new Absent() };
faceapi.env.setEnv({ ...names, ...makers, fetch: () => {}, readFile: () => {} });
await faceapi.tf.setBackend('cpu');
await faceapi.tf.ready();

const bytes = (path) => { const b = fs.readFileSync(path); return b.buffer.slice(b.byteOffset, b.byteOffset + b.length); };
const model = `${folder}/tiny_face_detector_model`;
const manifest = JSON.parse(fs.readFileSync(`${model}-weights_manifest.json`));
const network = new faceapi.TinyFaceDetector();
network.loadFromWeightMap(faceapi.tf.io.decodeWeights(bytes(`${model}.bin`), manifest[0].weights));
const pixels = faceapi.tf.tensor3d(new Float32Array(bytes(picture)), [+height, +width, 3]);
const output = await network.forward(pixels, +size);
const faces = await network.locateFaces(pixels, { inputSize: +size, scoreThreshold: 0.5 });
const found = faces.map((f) => [f.box.x, f.box.y, f.box.x + f.box.width, f.box.y + f.box.height, f.score]);
fs.writeSync(1, '\n' + JSON.stringify({ shape: output.shape, output: Array.from(await output.data()), faces: found }));
